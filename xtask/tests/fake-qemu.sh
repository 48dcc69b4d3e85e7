#!/bin/sh
# Stands in for QEMU: boots nothing, prints what a guest would, and ends as FAKE_GUEST says.
[ "$1" = --version ] && { echo "Fake emulator version 0"; exit; }
mark='@cofferdam'
scenario=main_job
started() { echo "$mark {\"Started\":{\"scenario\":\"$scenario\",\"memory_mib\":256,\"tsc_mhz\":1000}}"; }
expect() { echo "$mark {\"Expect\":{\"what\":\"$1\",\"ok\":$2,\"seen\":\"$3\"}}"; }

# A saved log stands in for the guest.
[ -n "$FAKE_LOG" ] && { cat "$FAKE_LOG"; exit "$FAKE_STATUS"; }

echo "the log of a guest"
case "$*" in
*"-append refuse") scenario=refusals; started; echo "$mark "'{"Refused":{"error":"not this machine"}}'; exit 35 ;;
*"-append crash") echo "panicked at the start"; exit 37 ;;
esac
# The first machine ends after the others, and badly.
case "$FAKE_GUEST $*" in slow_first*aw-bits=39,snoop-control=off*) started; sleep 1; exit 37 ;; esac
case "$FAKE_GUEST" in
hang) started; exec sleep 60 ;;
crash) started; echo "panicked at the disco"; exit 37 ;;
no_start) echo "qemu: no such device" >&2; exit 1 ;;
torn) started; expect "a device stays out" true ""; echo "$mark {\"Expect\":{\"wh"; echo "$mark \"Finished\""; exit 33 ;;
esac
started
[ -n "$FAKE_DEPTHS" ] && printf 'stack: %s\n' "commit $FAKE_DEPTHS" "faults 56" "units 56"
echo "$mark "'{"Unit":{"base":4275634176,"segment":0,"capabilities":"48 bits, queue"}}'
echo "$mark "'{"Cell":{"name":"left","input":0,"output":67108864,"bytes":16777216,"coherency":"snoops"}}'
echo "$mark "'{"Reach":{"device":"00:02.0 of left","memory":"left","access":"read write"}}'
echo "$mark "'{"Reach":{"device":"00:02.0 of left","memory":"right","access":"blocked"}}'
expect "a device reaches its own cell" true "0x1234"
case "$*" in *snoop-control=on*) expect "the cell is coherent" true "" ;; esac
case "$FAKE_GUEST" in broken) expect "a device stays out" false "it wrote 0x55" ;; esac
echo "$mark "'{"Counts":{"descriptors":45,"waits":10,"doorbells":11,"table_frames":14}}'
echo "$mark "'"Finished"'
case "$FAKE_GUEST" in broken) exit 35 ;; *) exit 33 ;; esac
