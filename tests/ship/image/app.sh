#!/bin/sh
# An app that reads its secret at the start and once more on HUP, leaves an orphan behind each time,
# and ends with 7 on TERM.
load() {
  echo "using $(cat /etc/db/password)"
  (sh -c 'sleep 0.2; echo "orphan: $(grep PPid /proc/$$/status)"' &)
}
trap load HUP
trap 'exit 7' TERM
load
while :; do
  sleep 1 &
  wait $!
done
