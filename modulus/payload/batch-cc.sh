# shellcheck shell=sh
# In the place of the compiler while kbuild runs under batch.sh, which says why.

folder=${0%/bin/*}
# A compiler that is a link to a cache of compiles would find us again.
PATH=${PATH#"$folder/bin:"}
read -r real <"$folder/real"
case $* in
    *'
'*) exec "$real" "$@" ;;
    *" -DKBUILD_BASENAME="*" -c -o "*.o" "*.c) ;;
    *) exec "$real" "$@" ;;
esac

object='' source='' deps=''
for word; do
    [ "$source" != -o ] || object=$word
    case $word in
        -Wp,-MMD,*) deps=${word#-Wp,-MMD,} ;;
    esac
    source=$word
done
case $object in
    /*) asked=$folder/asked$object ;;
    *) asked=$folder/asked$PWD/$object ;;
esac
if [ -f "$folder/noting" ] && [ "$deps" ] && [ "${source%.c}" = "${object%.o}" ]; then
    [ -d "${asked%/*}" ] || mkdir -p "${asked%/*}"
    {
        pwd
        printf '%s\n' "$@"
    } >"$asked"
    echo "$asked" >>"$folder/noted"
    exit 1
fi

# Takes what is ready, if it is what was asked for, of the very source, and whole.
take() {
    read -r ready 2>/dev/null <"$asked.at" || return
    made=${ready%/*}/done/${ready##*/}.s
    name=${source##*/}
    [ -f "$made" ] || return
    { pwd && printf '%s\n' "$@"; } | cmp -s - "$asked" || return
    cmp -s "$source" "$ready.c" || return
    sed -i "0,/^\t\.file\t.*/s//\t.file\t\"$name\"/" "$made" || return
    sed "1{\$!N;s|^.*modulus-batch\.c|${name%.c}.o: $source|}; s|[^ ]*modulus-next-[0-9]*||g" \
        "$ready.d" >"$deps"
}

take "$@" || exec "$real" "$@"
# It was not included by anything, when compiled alone.
[ ! -s "$ready.err" ] || sed '
    /^In file included from /{
        :chain
        /,$/{
            N
            b chain
        }
        s/,\n *from modulus-onward:1//g
        /^In file included from modulus-onward:1:$/d
    }
' "$ready.err" >&2
count=$#
for word; do
    shift
    count=$((count - 1))
    [ $count = 0 ] || set -- "$@" "$word"
done
exec "$real" "$@" "$made"
