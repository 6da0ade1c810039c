/*
 * connector.c: the connector inside, with rules beside it.
 */
#include "fault.h"

#include <stdio.h>
#include <string.h>

static mb_status out_of_memory(const mb_host *host, mb_error *error)
{
  return host->fail(error, MB_RESOURCE, "out of memory");
}

/* The display of the connector inside, with what is around it. */
static bool name_url(mb_driver_connector *connector, mb_connector_info *info)
{
  static const char around[] = "fault+";
  const size_t size = sizeof around + strlen(info->url);
  connector->url = connector->host->allocate(size);
  if (connector->url == NULL)
    return false;
  (void)snprintf(connector->url, size, "%s%s", around, info->url);
  info->url = connector->url;
  return true;
}

mb_status ft_open_connector(const mb_driver *driver, const mb_host *host,
    const mb_option *options, size_t n, mb_driver_connector **out,
    mb_connector_info *info, mb_error *error)
{
  mb_driver_connector *connector = host->allocate(sizeof *connector);
  if (connector == NULL)
    return out_of_memory(host, error);
  *connector = (mb_driver_connector){.host = host, .driver = driver};
  connector->rules = ft_rules_open(host, driver);
  if (connector->rules == NULL) {
    ft_close_connector(connector);
    return out_of_memory(host, error);
  }
  if (driver->open_connector(
          host, options, n, &connector->inner, info, error) != MB_OK) {
    connector->inner = NULL;
    ft_close_connector(connector);
    return MB_ERROR;
  }
  if (!name_url(connector, info)) {
    ft_close_connector(connector);
    return out_of_memory(host, error);
  }
  connector->blocks = info->blocks;
  *out = connector;
  return MB_OK;
}

void ft_close_connector(mb_driver_connector *connector)
{
  if (connector->inner != NULL)
    connector->driver->close_connector(connector->inner);
  ft_rules_unref(connector->rules);
  connector->host->release(connector->url);
  connector->host->release(connector);
}

mb_status ft_reset_db(
    mb_driver_connector *connector, mb_op *op, mb_error *error)
{
  return connector->driver->reset_db(connector->inner, op, error);
}
