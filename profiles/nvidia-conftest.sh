# shellcheck shell=sh
# Answers the vendor's tests of the kernel (conftest.sh) all at once, into the files where make
# looks for each; run by nvidia-conftest.mk, which says why.
#
#   nvidia-conftest.sh BUILD CC ARCH SOURCES OUTPUT CFLAGS HEADERS TESTS [WHAT PART]
#
# The vendor's functions run twice in one shell. First a stand-in for the compiler keeps what
# they would have compiled. All of that is compiled in one go (forkcc.c). Then the stand-in
# gives the answers, and what the functions print is what they would print anyway. Whatever goes
# wrong, and any test that is not as it was, is left to the real compiler, or to make.
#
# With WHAT this does one of as many parts as there are jobs, for itself: the vendor's functions
# name their files by the shell that they run in.
#
# The vendor's functions share this shell, so what is named here while they run begins with m_.

m_build=$1 m_cc=$2 m_arch=$3 m_sources=$4 m_output=$5 m_flags=$6 m_headers=$7 m_tests=$8
m_what=${9-} m_jobs=${MODULUS_JOBS:-1} m_turn=0
m_folder=$m_build/.modulus-conftest
m_kept=$m_folder/tests
m_made=$m_build/conftest

# Runs the vendor's script.
vendors() {
    /bin/sh "$m_build/conftest.sh" "$m_cc" "$m_arch" "$m_sources" "$m_output" "$@"
}

# Does all parts of something at once.
do_parts() {
    part=0
    while [ "$part" -lt "$m_jobs" ]; do
        /bin/sh "$0" "$m_build" "$m_cc" "$m_arch" "$m_sources" "$m_output" "$m_flags" "$m_headers" \
            "$m_tests" "$1" "$part" &
        part=$((part + 1))
    done
    wait
}

# Whether the next of all is in this part.
m_is_ours() {
    m_turn=$(((m_turn + 1) % m_jobs))
    [ "$m_turn" = "$m_part" ]
}

check_some_headers() {
    define_functions
    CC=$m_cc
    for m_header in $m_headers; do
        m_is_ours || continue
        mkdir -p "$m_made/header_presence/$(dirname "$m_header")"
        (test_header_presence "$m_header") >"$m_made/header_presence/$m_header.part" ||
            rm -f "$m_made/header_presence/$m_header.part"
        echo " CONFTEST: $m_header" >&2
    done
}

check_headers() {
    do_parts headers
    for header in $m_headers; do
        cat "$m_made/header_presence/$header.part" || return
    done >"$m_made/headers.h"
    cat "$m_made/uts_release" >>"$m_made/headers.h"
    echo " CONFTEST headers.h:" >&2
    cat "$m_made/headers.h" >&2
}

# Defines the vendor's functions here. They work in the folder of the script, as they are used to.
define_functions() {
    set -- "$m_cc" "$m_arch" "$m_sources" "$m_output" none
    cd "$m_build" || exit
    # shellcheck source=/dev/null
    . ./conftest.sh
    cd "$m_build" || exit # It went to where this script is.
    CFLAGS=$m_flags
    # shellcheck disable=SC2086 # the vendor's script has it in words, too
    m_words=$(set -f && set -- $CFLAGS && printf %s "$*")
}

# Whether a stand-in is asked for a test, by all its words; ``m_source`` is its file then,
# and ``m_name`` says which of the tests it is.
m_is_test() {
    for m_source; do :; done
    case $m_source in
        conftest*.c) ;;
        *) return 1 ;;
    esac
    m_asked=$((m_asked + 1))
    m_name=$m_test.$m_asked
    [ "$*" = "$m_words -c $m_source" ]
}

m_keep() {
    if m_is_test "$@"; then
        read -r m_number <"$m_folder/count"
        echo $((m_number + 1)) >"$m_folder/count"
        cp "$m_source" "$m_kept/$m_number.c"
        echo "$m_number" >"$m_kept/$m_name"
    fi
    return 1
}

m_answer() {
    if m_is_test "$@" && [ -f "$m_kept/$m_name" ]; then
        read -r m_number <"$m_kept/$m_name"
        if cmp -s "$m_source" "$m_kept/$m_number.c"; then
            if [ -f "$m_kept/$m_number.o" ]; then
                : >"${m_source%.c}.o"
                return 0
            fi
            [ ! -f "$m_kept/$m_number.failed" ] || return 1
        fi
    fi
    $m_cc "$@"
}

m_run_test() {
    m_asked=0
    compile_test "$m_test"
}

keep_all() {
    define_functions
    CC=m_keep
    for m_test in $m_tests; do
        (m_run_test) >/dev/null 2>&1
    done
}

# Tests whose outcome is known: should they come out otherwise, so may the others.
keep_known() {
    echo 'int known;' >"$m_kept/0.c"
    echo '#error known' >"$m_kept/1.c"
    # Fails only when code is generated, as the kernel's BUILD_BUG_ON.
    echo 'extern void f(void) __attribute__((error("known"))); void g(void); void g(void) { f(); }' \
        >"$m_kept/2.c"
    echo 3 >"$m_folder/count"
}

is_as_known() {
    [ -f "$m_kept/0.o" ] && [ -f "$m_kept/1.failed" ] && [ -f "$m_kept/2.failed" ]
}

compile_all() {
    define_functions
    $m_cc -O1 -fPIC -shared -nostdlib -o "$m_folder/forkcc.so" "$MODULUS_RECIPE/forkcc.c" ||
        return
    echo '#include "modulus-next-0"' >modulus-conftest.c
    # What macros a token came through would only be said in messages.
    # shellcheck disable=SC2086
    MODULUS_SOURCES=$m_kept MODULUS_OUTPUT=$m_folder/all.s MODULUS_JOBS=$m_jobs \
        LD_PRELOAD=$m_folder/forkcc.so $m_cc $CFLAGS -ftrack-macro-expansion=0 \
        -S -o "$m_folder/all.s" modulus-conftest.c 2>/dev/null
    rm -f modulus-conftest.c
    while read -r m_number m_status; do
        case $m_status in
            0) mv "$m_kept/$m_number.s" "$m_kept/$m_number.passed.s" ;;
            256) : >"$m_kept/$m_number.failed" ;; # exit(1)
        esac
    done <"$m_kept/results"
    cd "$m_kept" || return
    # shellcheck disable=SC2086
    printf '%s\0' ./*.passed.s | xargs -0 -n 16 -P "$m_jobs" $m_cc $CFLAGS -c 2>/dev/null
    for object in *.passed.o; do
        mv "$object" "${object%.passed.o}.o"
    done
    is_as_known || rm -f ./*.o ./*.failed
    read -r m_number <"$m_folder/count"
    echo "conftest: $(find . -name '*.o' -o -name '*.failed' | wc -l) of $m_number compiles in one" >&2
}

answer_some_tests() {
    define_functions
    # shellcheck disable=SC2034 # what the vendor's functions call
    CC=m_answer
    for m_test in $m_tests; do
        m_is_ours || continue
        if (m_run_test) >"$m_folder/printed.$m_part"; then
            mv "$m_folder/printed.$m_part" "$m_made/compile-tests/$m_test.h"
        fi
        echo " CONFTEST: $m_test" >&2
    done
}

if [ "$m_what" ]; then
    m_part=${10}
    case $m_what in
        headers) check_some_headers ;;
        tests) answer_some_tests ;;
    esac
    exit
fi
mkdir -p "$m_kept" "$m_made/compile-tests" || exit
uts_release=$(vendors compile_tests "$m_flags" uts_release) || exit
echo "// Kernel version: $uts_release" >"$m_made/uts_release"
keep_known
(keep_all) &
if check_headers; then
    wait
    (compile_all)
    do_parts tests
fi
wait
rm -rf "$m_folder"
mkdir "$m_folder"
