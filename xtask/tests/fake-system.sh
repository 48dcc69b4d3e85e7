#!/bin/sh
# Stands in for apt-get, apt-cache, sudo and rustup, under whose names it is linked into FAKE_BIN.
case "${0##*/}" in
sudo) shift; exec "$@" ;;
rustup) echo "info: downloading" >&2; echo "error: could not download" >&2; exit 1 ;;
apt-cache) [ "$1" = policy ] && printf 'rustc-web:\n  Installed: (none)\n  Candidate: 1.999.0+dfsg1\n' ;;
apt-get)
    echo "$*" >>"$FAKE_BIN/log"
    case "$FAKE_APT,$*" in
    broken,*) echo "E: the disk is full" >&2; exit 100 ;;
    empty,*) ;;
    *install*) ln -s "$FAKE_QEMU" "$FAKE_BIN/qemu-system-x86_64"; for tool in iasl cc ar grub-mkrescue xorriso mformat; do ln -s "$FAKE_QEMU" "$FAKE_BIN/$tool"; done; : >"$FAKE_LIBDIR/libcore-0123.rlib" ;;
    esac ;;
esac
