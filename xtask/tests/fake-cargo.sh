#!/bin/sh
# Stands in for cargo and rustc: builds nothing, tests nothing, and says what they would as FAKE_CARGO says.
case "$1" in
--version) echo "rustc ${FAKE_VERSION:-1.999.0} (fake)" ;;
--print) echo "$FAKE_LIBDIR" ;;
build)
    [ -n "$RUSTFLAGS" ] && { echo "error: the flags of the image are lost" >&2; exit 101; }
    [ "$FAKE_CARGO" = no_build ] && { echo "error: expected one of these" >&2; exit 101; }
    for bin in main_job platform refusals board; do
        echo '{"reason":"compiler-artifact","target":{"name":"'$bin'"},"executable":"/nowhere/'$bin'"}'
    done
    for bin in cofferdam-outside cofferdam-outside-boot; do
        echo '{"reason":"compiler-artifact","target":{"name":"'$bin'"},"executable":"'"$FAKE_CLIENT"'"}'
    done ;;
test)
    [ "$FAKE_CARGO" = no_test ] && { echo "error: expected one of those" >&2; exit 101; }
    echo "     Running unittests src/lib.rs (/nowhere/debug/deps/cofferdam-0123)" >&2
    echo "test a ... ok"
    [ "$FAKE_CARGO" = abort ] && { echo "error: test failed (signal: 6, SIGABRT)" >&2; exit 101; }
    echo "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s"
    echo "   Doc-tests cofferdam" >&2
    [ "$FAKE_CARGO" = bad_test ] || {
        echo "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s"
        exit 0
    }
    printf '%s\n' "test b ... FAILED" "" "failures:" "" "---- b stdout ----" "left is not right"
    echo "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s"
    exit 101 ;;
bench)
    case "$*" in
    *--no-run*) if [ "$FAKE_CARGO" = no_build ]; then echo "error: expected one of these" >&2; exit 101; fi ;;
    *"--bench times"*) cat "$FAKE_BENCH/times" ;;
    *"--bench counts"*) [ -x "$GUNGRAUN_RUNNER" ] && cat "$FAKE_BENCH/counts" ;;
    esac ;;
metadata) echo '{"target_directory":"'"$FAKE_BENCH"'/target"}' ;;
install)
    echo "$*" >>"$FAKE_BENCH/log"
    for root in "$@"; do :; done
    mkdir -p "$root/bin" && printf '#!/bin/sh\n' >"$root/bin/gungraun-runner" && chmod +x "$root/bin/gungraun-runner" ;;
esac
