#!/bin/sh
echo "going to sleep"
exec sleep 600
