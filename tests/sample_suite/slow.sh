#!/bin/sh
sleep 3
echo "slow and steady"
