-- What shop.lua needs, on SQLite, PostgreSQL and MySQL.
create table article (
  id integer not null primary key,
  name varchar(100) not null,
  pieces integer not null check (pieces >= 0)
);
create table purchase (
  id integer not null primary key,
  article integer not null,
  pieces integer not null check (pieces > 0),
  foreign key (article) references article (id)
);
insert into article values (1, 'chair', 10), (2, 'table', 1);
