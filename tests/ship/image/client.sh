#!/bin/sh
# An app that has no mount of the secret: it asks the sidecar's socket, and says what it uses.
revision=
while revision=$(secretwatch wait db ${revision:+--after "$revision"}); do
  echo "using $(secretwatch get db password)"
  secretwatch adopted db --consumer client --revision "$revision"
done
