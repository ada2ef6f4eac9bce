#!/bin/sh
echo "this is $1"
test "$1" = passing
