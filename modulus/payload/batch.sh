# shellcheck shell=sh
# Has kbuild's compiles done together, so that the headers they share are read once (forkcc.c).
#
#   batch.sh FOLDER JOBS CC COMMAND...
#
# COMMAND, a make of external modules, runs twice. The first time, here, the compiler that PATH
# has (batch-cc.sh) only notes what it is asked for, and fails. What has the same flags is then
# compiled together, in FOLDER. The second time, by the caller, with FOLDER/bin first on PATH, the
# compiler has ready what was noted, if it is asked for just that; anything else, and whatever
# failed here, the real compiler does. make, kbuild and the .cmd files they leave know nothing
# of it.
set -u

folder=$1 jobs=$2 cc=$3
shift 3
here=$(dirname "$0")

# forkcc.c is made for this one compiler, which has to come from PATH.
case $cc in
    */*) exit 1 ;;
    gcc | gcc-* | *-gcc | *-gcc-*) ;;
    *) exit 1 ;;
esac
# It becomes part of commands.
case $folder in
    *[!A-Za-z0-9_./+-]*) exit 1 ;;
esac
mkdir -p "$folder/bin" "$folder/sets" || exit
trap 'rm -f "$folder/noting"' EXIT
command -v "$cc" >"$folder/real" || exit
read -r real <"$folder/real"
"$real" -O1 -fPIC -shared -nostdlib -o "$folder/forkcc.so" "$here/forkcc.c" || exit

# What is done by now, such as tests of the kernel, is not done again. Objects are not, but by
# the kbuilds that batch-cc.sh lets compile for themselves.
: >"$folder/noted"
: >"$folder/noting"
{
    echo '#!/bin/sh'
    cat "$here/batch-cc.sh"
} >"$folder/bin/$cc" || exit
chmod +x "$folder/bin/$cc" || exit
PATH=$folder/bin:$PATH "$@" -k 2>&1 | sed -u '/^make/d; /^  CC \[M\] /d'
rm "$folder/noting"
noted=$(wc -l <"$folder/noted")

# Puts each into the set of those that have all but these in common: notes on dependencies, its
# name, -c -o TO FROM. Left out is what would not come out as it does alone: where a compile
# keeps state, says how it was called or makes files of its own, where debug information tells how
# it was read, where it warns of comments, or of what is only in the file that is not included.
sort "$folder/noted" | awk -v folder="$folder" '
    {
        asked = $0
        debug = name = words = constants = ""
        fit = 1
        getline where <asked
        while ((getline word <asked) > 0) {
            if (word ~ /^-f(plugin|lto|profile|auto-profile|random-seed|callgraph-info|dump)/ ||
                word ~ /^-f(input-charset|record-gcc-switches|opt-info|save-opt|compare-debug)/ ||
                word ~ /^-fdiagnostics-(format|color$|color=always|.*-output)/ ||
                word ~ /^-(-?coverage|ftest-coverage|fstack-usage|save-temps|x|d|aux-info|H$)/ ||
                word ~ /^-(fsanitize=.*(address|thread)|ansi|std=[^g]|W?pedantic|Wunused-macros)/ ||
                word ~ /^(@|--debug|-M|-Wp,-M)/ && word !~ /^-Wp,-MMD,[^,]*$/)
                fit = 0
            if (word ~ /^-g/)
                debug = word
            if (word ~ /^-W(no-)?unused-const-variable/ || constants == "" && word ~ /^-W(all|unused)/)
                constants = word
            if (word ~ /^-DKBUILD_BASENAME=/)
                name = substr(word, 19)
            else if (word !~ /^-Wp,-MMD,/)
                words = words "\n" word
        }
        close(asked)
        from = words
        sub(/^.*\n/, "", from)
        sub(/\n-c\n-o\n[^\n]*\n[^\n]*$/, "", words)
        if (!fit || (debug != "" && debug != "-g0") || (constants != "" && constants !~ /^-Wno-/) ||
            from !~ /^[A-Za-z0-9_.\/+-]*\/[A-Za-z0-9_.+-]*$/)
            next
        set = from
        sub(/\/[^\/]*$/, "", set)
        set = set "\n" where words
        if (!(set in number)) {
            number[set] = sets++
            members[set] = 0
            print number[set]
            system("mkdir " folder "/sets/" number[set])
            path = folder "/sets/" number[set] "/words"
            print set >path
            close(path)
        }
        path = folder "/sets/" number[set] "/" members[set]++
        printf "\"%s\"\n#undef KBUILD_BASENAME\n#define KBUILD_BASENAME %s\n", from, name >(path ".head")
        close(path ".head")
        print from >(path ".from")
        close(path ".from")
        print path >(asked ".at")
        close(asked ".at")
    }
' >"$folder/plan"

# What all of a set read is not told for which object it is: it is an error to ask, in code as well
# as in an #if.
unknown='-DKBUILD_BASENAME=__has_include("unknown") __has_include("unknown")'

compile_set() {
    set=$1
    shift
    {
        read -r place
        read -r where
        while IFS= read -r word; do
            set -- "$@" "$word"
        done
    } <"$set/words"
    cd "$where" || return
    for from in "$set"/*.from; do
        read -r source <"$from"
        cp "$source" "${from%from}c" || return
    done
    printf '#line 1 "modulus-onward"\n#include "modulus-next-0"\n' >"$place/modulus-batch.c"
    # It says nothing that it does not say again for each alone, but why that is so.
    MODULUS_SOURCES=$set MODULUS_OUTPUT=$set/all.s MODULUS_JOBS=$jobs LD_PRELOAD=$folder/forkcc.so \
        "$real" "$@" -Wp,-MMD,/proc/self/fd/255 "$unknown" \
        -S -o "$set/all.s" "$place/modulus-batch.c" 2>"$set/said"
    rm -f "$place/modulus-batch.c"
    mkdir "$set/done"
    [ -f "$set/results" ] || return
    # A message that says where a common header was included cannot be told right.
    while read -r number status; do
        [ "$status" != 0 ] || echo "$set/$number.err"
    done <"$set/results" | xargs -r grep -L modulus-next- | sed 's/err$/s/' |
        xargs -r mv -t "$set/done"
}

while read -r number; do
    (compile_set "$folder/sets/$number")
done <"$folder/plan"
echo "batch: $(find "$folder/sets" -path '*/done/*.s' | wc -l) of $noted objects compiled together"
