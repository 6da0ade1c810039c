#!/bin/bash
# A Galera cluster of three nodes on this machine, for trying things out: every node has all of
# the data, takes writes, and may fail.
#
#   examples/cluster.sh [FOLDER]
#
# It makes the nodes in FOLDER (a new one that is removed at the end, without one), prints
# what they are, each with its process, its port and its socket, and the URL of all three:
#
#   node 1 PID PORT SOCKET
#   …
#   url mysql://app@127.0.0.1:PORT,127.0.0.1:PORT,127.0.0.1:PORT/app
#
# and runs until Control-C, or until its input ends.  `start N` on its input starts a node
# that was killed again, and is answered by its line.
#
# Debian: apt-get install mariadb-server galera-4 rsync
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

given=${1-}
folder=${given:-$(mktemp -d "${TMPDIR:-/tmp}/cluster.XXXXXX")}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
chmod 755 "$folder"
provider=
for path in /usr/lib/galera/libgalera_smm.so /usr/lib64/galera-4/libgalera_smm.so; do
  [ -e "$path" ] && provider=$path && break
done
[ -n "$provider" ] || { echo "galera-4 is missing" >&2; exit 1; }
user=()
[ "$(id -u)" -ne 0 ] || user=(--user=mysql)

# Four ports for each node, one behind the other, of which nobody uses any: SQL, the group, what
# a node has missed, and all of the data.
is_free() { ! (: </dev/tcp/127.0.0.1/"$1") 2>/dev/null; }
find_base() {
  local base port
  for base in $(seq $((21000 + $$ % 600 * 12)) 12 32000); do
    for port in $(seq "$base" $((base + 11))); do is_free "$port" || continue 2; done
    echo "$base" && return
  done
  echo "no twelve free ports one behind the other" >&2
  exit 1
}
base=$(find_base)
port_of() { echo $((base + 4 * ($1 - 1) + $2)); }
addresses=127.0.0.1:$(port_of 1 1),127.0.0.1:$(port_of 2 1),127.0.0.1:$(port_of 3 1)

make_data() { # node
  rm -rf "$folder/node$1/data"
  mariadb-install-db --no-defaults "${user[@]}" --datadir="$folder/node$1/data" \
    --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve \
    >"$folder/node$1/output" 2>&1
}

start() { # node, option to begin a cluster with
  local place=$folder/node$1
  mariadbd --no-defaults "${user[@]}" --datadir="$place/data" --socket="$place/socket" \
    --port="$(port_of "$1" 0)" --bind-address=127.0.0.1 --pid-file="$place.pid" \
    --log-error="$place/log.err" --skip-name-resolve --innodb-buffer-pool-size=64M \
    --innodb-flush-log-at-trx-commit=0 --innodb-autoinc-lock-mode=2 --binlog-format=row \
    --max-allowed-packet=64M \
    --wsrep-on=ON --wsrep-provider="$provider" --wsrep-cluster-name="moonbase$base" \
    --wsrep-cluster-address="gcomm://$addresses" --wsrep-node-name="node$1" \
    --wsrep-node-address=127.0.0.1 --wsrep-sst-method=rsync \
    --wsrep-sst-receive-address="127.0.0.1:$(port_of "$1" 3)" \
    --wsrep-provider-options="gmcast.listen_addr=tcp://127.0.0.1:$(port_of "$1" 1); \
ist.recv_addr=127.0.0.1:$(port_of "$1" 2); gcache.size=32M" "${@:2}" \
    >"$place/output" 2>&1 </dev/null &
  disown
}

sql() { # node, text
  mariadb --no-defaults -u root -S "$folder/node$1/socket" -N -B -e "$2" 2>/dev/null
}

# Waits until a node takes part in the cluster.
await() {
  local turn
  for turn in $(seq 600); do
    [[ $(sql "$1" "show status like 'wsrep_ready'") == *ON ]] && return
    sleep 0.1
  done
  tail -n 30 "$folder/node$1/log.err" >&2
  echo "node $1 did not become ready" >&2
  exit 1
}

say() {
  echo "node $1 $(head -n 1 "$folder/node$1.pid") $(port_of "$1" 0) $folder/node$1/socket"
}

finish() {
  trap '' INT TERM HUP EXIT
  local file pid
  for file in "$folder"/node*.pid; do
    [ -e "$file" ] || continue
    read -r pid <"$file"
    kill -KILL "$pid" 2>/dev/null || continue
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
  done
  rm -rf "$folder"/node?/ "$folder"/node?.pid
  [ -n "$given" ] || rm -rf "$folder"
}
trap finish EXIT
trap 'exit 0' INT TERM HUP
trap 'echo "line $LINENO failed; the nodes say:" >&2; tail -n 5 "$folder"/node*/output >&2' ERR

for node in 1 2 3; do
  mkdir -p "$folder/node$node"
  [ ${#user[@]} -eq 0 ] || chown mysql: "$folder" "$folder/node$node"
  mkdir -p "$folder/node$node/data"
  [ ${#user[@]} -eq 0 ] || chown mysql: "$folder/node$node/data"
done
make_data 1 || make_data 1
start 1 --wsrep-new-cluster
await 1
sql 1 "create database app character set utf8mb4; create user app@'%';
  grant all on app.* to app@'%'; grant process on *.* to app@'%'"
for node in 2 3; do
  start $node
  await $node
done
for node in 1 2 3; do say $node; done
echo "url mysql://app@127.0.0.1:$(port_of 1 0),127.0.0.1:$(port_of 2 0),127.0.0.1:$(port_of 3 0)/app"

while read -r command node; do
  if [ "$command" = start ]; then
    start "$node"
    await "$node"
    say "$node"
  fi
done
