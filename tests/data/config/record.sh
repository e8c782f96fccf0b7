#!/bin/bash
# Records what the real drbdadm says about the good files, into golden/: run it where drbd-utils 9.22
# is installed. It needs no kernel module: the environment selects the 8.4 personality and the node.
# Paths become DIR. `### ARGUMENTS` starts each answer; its exit status stands behind it.
set -u
cd "$(dirname "$0")/good" || exit 1
export DRBD_DRIVER_VERSION_OVERRIDE=8.4.11
commands=("dump" "-v dump" "dump-xml" "-v dump-xml" "-d up all" "-d wait-connect all" "sh-resources" "sh-dev all"
  "sh-minor all" "sh-ll-dev all" "sh-md-dev all" "sh-md-idx all" "sh-ip all" "sh-mod-parms" "sh-udev minor-1")
for file in *.conf; do
  export __DRBD_NODE__=alpha
  [ "$file" = classic.conf ] && __DRBD_NODE__=boole
  for command in "${commands[@]}"; do
    # shellcheck disable=SC2086
    output=$(drbdadm -c "$file" $command 2>/dev/null; echo "### exit $?")
    printf '### %s\n%s\n' "$command" "${output//$PWD\//DIR/}"
  done > "../golden/${file%.conf}.txt"
done
