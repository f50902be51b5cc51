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
# keeps state or makes files of its own, or where debug information tells how it was read.
sort "$folder/noted" | awk -v folder="$folder" '
    {
        asked = $0
        debug = name = words = ""
        fit = 1
        getline where <asked
        while ((getline word <asked) > 0) {
            if (word ~ /^-f(plugin|lto|profile|auto-profile|random-seed|callgraph-info|dump)/ ||
                word ~ /^-(-?coverage|ftest-coverage|fstack-usage|save-temps|fsanitize=.*address|x)/)
                fit = 0
            if (word ~ /^-g/)
                debug = word
            if (word ~ /^-DKBUILD_BASENAME=/)
                name = substr(word, 19)
            else if (word !~ /^-Wp,-MMD,/)
                words = words "\n" word
        }
        close(asked)
        from = words
        sub(/^.*\n/, "", from)
        sub(/\n-c\n-o\n[^\n]*\n[^\n]*$/, "", words)
        if (!fit || (debug != "" && debug != "-g0") || from !~ /^[A-Za-z0-9_.\/+-]*\/[^\/]*$/)
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

# Prints those of a set whose files name what would be told otherwise: how deep they are included,
# and by which file.
odd_ones() {
    pattern='__BASE_FILE__\|__INCLUDE_LEVEL__'
    grep -ls "$pattern\|include_next" "$set"/*.c | sed 's/c$/s/'
    sed 's/[\\ ]/\n/g' "$set"/*.d | sort -u | grep '\.h$' | xargs -r grep -ls "$pattern" |
        while read -r header; do
            grep -lsF "$header" "$set"/*.d | sed 's/d$/s/'
        done
}

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
    echo '#include "modulus-next-0"' >"$place/modulus-batch.c"
    # What all of them read is not told for which object it is. Where that ends up in one, or is
    # more than text, it does not come out.
    MODULUS_SOURCES=$set MODULUS_OUTPUT=$set/all.s MODULUS_JOBS=$jobs LD_PRELOAD=$folder/forkcc.so \
        "$real" "$@" -Wp,-MMD,/proc/self/fd/255 -DKBUILD_BASENAME=modulus_not_yet_known \
        -S -o "$set/all.s" "$place/modulus-batch.c"
    rm -f "$place/modulus-batch.c"
    mkdir "$set/done"
    [ -f "$set/results" ] || return
    while read -r number status; do
        [ "$status" != 0 ] || echo "$set/$number.s"
    done <"$set/results" | xargs -r grep -L modulus_not_yet_known | xargs -r mv -t "$set/done"
    odd_ones | sed 's|.*/|done/|' | (cd "$set" && xargs -r rm -f)
}

while read -r number; do
    (compile_set "$folder/sets/$number")
done <"$folder/plan"
echo "batch: $(find "$folder/sets" -path '*/done/*.s' | wc -l) of $noted objects compiled together"
