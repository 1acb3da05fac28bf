# shellcheck shell=sh
# shellcheck disable=SC2154 # Set before: private, spread_program, and what tools.sh and enter.sh say.
# shellcheck disable=SC2086 # Options and commands are split into words on purpose.
#
# The dialogue that stores files on a server: it reads commands from a terminal in raw mode, a line
# each, and the bytes that they announce.
#
# A line is NUMBER COMMAND ARGUMENT…. Each gets one answer, by say NUMBER TEXT: "ok …", or "no WHY".
# A frame of bytes gets "credit LENGTH"; one that cannot be taken ends the dialogue with "lost WHY",
# since nobody knows any more which of the bytes that follow are a command.
#
# A place is ROOT FOLDERS NAME FOLLOW, each a word for printf %b (\0ooo for what is not harmless,
# \c for nothing): links in ROOT are followed, those in FOLDERS refused, and one at NAME is followed
# where FOLLOW is 1, else it is replaced by what is stored.
#
#   tools                                 what the server has, as tell_tools prints it, by data lines
#   run        LENGTH                     runs a script of so many bytes: its output by data lines, its
#                                         complaints by "- COMPLAINT" lines, then "ok STATUS BYTES"
#   folder     PLACE MODE                 makes a folder if it is missing: "ok new"
#   link       PLACE TEMPORARY TARGET     makes a link in the place of a file or link
#   attributes ROOT FOLDERS MODE [STAMP]  sets mode and time of a folder
#   begin      PLACE TEMPORARY KEPT HASH  makes a temporary file: "ok"; or takes up one that an earlier
#                                         run has left (KEPT 1): "have LENGTH [SHA-256]"
#   join       PLACE TEMPORARY KEPT       takes part in a file that another dialogue has begun
#   write      LENGTH CODEC               appends a frame, compressed by CODEC or as it is (-)
#   write-at   LENGTH CODEC BLOCK         writes a frame at a multiple of a mebibyte
#   sums       FIRST COUNT                hashes parts of 8 MiB: "sum SHA-256 …"
#   empty                                 begins the file again
#   pull       URL                        appends what is at an address
#   end        SHA-256 LENGTH EXACT MODE STAMP  verifies the file and renames it
#   leave                                 gives the file up; it goes unless it is KEPT
#   release                               leaves the file to the others that write it
#   hash       PLACE LENGTH               the hash of a file, or of its beginning: "sum SHA-256"
#   push       PLACE FIRST LENGTH WHOLE URL     puts a part of a file at an address
#   stage      PLACE                      makes a private folder for an archive
#   unpack     TIMES                      then LENGTH CODEC for each frame of it, and 0
#   unpacked                              answers when that is done
#   unpack-from TIMES CODEC SHA-256 URL   unpacks the archive at an address
#   verify                                the hash of the sorted hashes of all that was unpacked
#   spread     SUB ROOT FOLDERS EXACT     moves the files of a folder of the stage into place
#   clear                                 removes the stage
#   quit
#
# A data line is "+ BASE64", or "x DIGITS" in hexadecimal where a server has no base64. These lines
# have no number, since they go by the fast way alone where there is one: the client counts what
# arrives.

# What is made is private until it gets its own mode.
umask 077
# Names are bytes, and the words of tools those that the client knows.
LC_ALL=C
export LC_ALL
# Words of a line are never patterns.
set -f

# Where the current folder is, as the words that asked for it; empty where nobody knows.
current=
# The file that was begun: its names in the current folder, whether it is kept when things go wrong,
# and by what it is opened again.
name=
temporary=
kept=
target=
exact_move=
! has exact-move || exact_move=-T
has_handles=
! has handles || has_handles=1

ok() { say "$number" "ok${1:+ $1}"; }
refuse() { say "$number" "no $(one_line "$1")"; }
give_up() {
    # Later than any other answer.
    say 999999999999 "lost $(one_line "$1")"
    exit 1
}
one_line() { printf "%s" "$1" | tr "\n" " " | head -c 2000; }

# decode WORD: sets $value.
decode() {
    case "$1" in
    # The full stop keeps line feeds at the end, which a substitution would cut off.
    *\\*)
        value=$(printf "%b." "$1")
        value=${value%.}
        ;;
    # Most names need no process.
    *) value=$1 ;;
    esac
}

# What the keeper removes if this shell dies.
keep() { printf "%s\n" "$1" >"$private/remove"; }
forget() { : >"$private/remove"; }

# locate ROOT FOLDERS NAME FOLLOW: goes there and sets $name; says in $why what is wrong.
locate() {
    go_to "$1" "$2" || return 1
    decode "$3"
    name=${value:-.}
    [ "$4" = 1 ] && [ -h "./$name" ] || return 0
    # An old macOS has no readlink -f: there the link itself is replaced.
    end=$(readlink -f "./$name" 2>/dev/null && echo .) || return 0
    end=${end%??}
    current=
    enter "${end%/*}/" "" || return 1
    name=${end##*/}
}

# go_to ROOT FOLDERS
go_to() {
    [ "$1 $2" != "$current" ] || return 0
    current=
    decode "$1"
    root=$value
    decode "$2"
    enter "$root" "$value" || return 1
    current="$1 $2"
}

# in_the_way: whether something has the name that a file or link must not replace.
in_the_way() {
    why="$PWD/$name is a folder"
    if [ -h "./$name" ] || [ -f "./$name" ] || [ ! -e "./$name" ]; then return 1; fi
    [ -d "./$name" ] || why="$PWD/$name is neither file nor link"
}

# put TEMPORARY: renames it to $name; a link of that name is replaced.
put() {
    # Without -T, mv moves a file into the folder that a link leads to.
    [ -n "$exact_move" ] || [ ! -h "./$name" ] || rm -f "./$name" || return 1
    mv -f $exact_move "./$1" "./$name"
}

make_folder() {
    if ! locate "$1" "$2" "$3" "$4"; then
        refuse "$why"
    elif [ "$4" != 1 ] && [ -h "./$name" ]; then
        refuse "$PWD/$name is a link on the server, which is not followed"
    elif [ -d "./$name" ]; then
        ok
    elif error=$(mkdir -m "$5" "./$name" 2>&1); then
        ok new
    else
        refuse "$error"
    fi
}

make_link() {
    if ! locate "$1" "$2" "$3" "$4" || in_the_way; then
        refuse "$why"
        return
    fi
    decode "$5"
    temporary=$value
    decode "$6"
    if error=$({ ln -s -- "$value" "./$temporary" && put "$temporary"; } 2>&1); then
        ok
    else
        rm -f "./$temporary"
        refuse "$error"
    fi
}

set_attributes() {
    if ! go_to "$1" "$2"; then
        refuse "$why"
    elif error=$({ chmod "$3" . && { [ -z "$4" ] || TZ=UTC0 touch -t "$4" .; }; } 2>&1); then
        ok
    else
        refuse "$error"
    fi
}

# --- scripts, and what they print ----------------------------------------------------------------

# Descriptor 7 is the fast way, which a dialogue over the terminal alone does not have. In a
# subshell, since a redirection that fails may end a shell.
if (: >&7) 2>/dev/null; then exec 3>&7; else exec 3>&8; fi

# send_data: standard input, as data lines. ksh gives no descriptor above 2 to a program unless it
# is named beside it.
send_data() {
    if command -v base64 >/dev/null 2>&1; then
        base64 | sed "s/^/!+ /" >&3
    elif command -v openssl >/dev/null 2>&1; then
        openssl base64 | sed "s/^/!+ /" >&3
    else
        od -An -v -tx1 | sed "s/^/!x /" >&3
    fi
}

# send_result STATUS: answers with what is in the files that hold output and error output.
send_result() {
    # An empty line behind the last one, which may have no end of its own.
    { sed "s/^/!- /" <"$private/e" && echo; } >&3
    send_data <"$private/r"
    length=$(wc -c <"$private/r" | tr -d " ")
    rm -f "$private/r" "$private/e"
    ok "$1 $length"
}

send_tools() {
    : >"$private/e"
    tell_tools >"$private/r"
    send_result 0
}

run_script() {
    # The full stop keeps line feeds at the end.
    script=$(
        head -c "$1"
        echo .
    )
    # What it changes, and what it might read from the terminal, is no matter of the dialogue.
    (eval "${script%.}") </dev/null >"$private/r" 2>"$private/e"
    send_result "$?"
}

# --- a file: descriptor 5 holds it from its beginning to its end ---------------------------------

# The file is opened again through its descriptor where the system can do that, so that nobody can
# put another one in its place: every opening has a position of its own, which dd counts from.
set_target() {
    target=./$temporary
    [ "$has_handles" != 1 ] || target=/proc/self/fd/5
}

# open_new: makes the temporary file, which nobody else may have made; says in $why what is wrong.
open_new() {
    [ "$kept" = 1 ] || keep "$PWD/$temporary"
    set -C
    # Without "command" a redirection that fails would end the shell.
    { command exec 5>"./$temporary"; } 2>/dev/null
    opened=$?
    set +C
    if [ "$opened" != 0 ]; then
        why=$( (set -C && : >"./$temporary") 2>&1)
        forget
        return 1
    fi
    set_target
}

# is_ours: whether the temporary file is one that only this user can write to. One of another user,
# a link, or a second name of a file that matters would give away what is written, or write
# elsewhere.
is_ours() {
    [ -n "$(find "./$temporary" -prune -type f -user "$(id -u)" -links 1 2>/dev/null)" ]
}

begin_file() {
    kept=$6
    if ! locate "$1" "$2" "$3" "$4" || in_the_way; then
        refuse "$why"
        return
    fi
    decode "$5"
    temporary=$value
    if [ "$kept" = 1 ] && is_ours; then
        if [ "$7" = 1 ]; then
            command exec 5>>"./$temporary"
        else
            command exec 5<>"./$temporary"
        fi
        set_target
        sum=
        [ "$7" = 0 ] || sum=$(hash_input <"$target")
        say "$number" "have $(wc -c <"$target" | tr -d " ") $sum"
        return
    fi
    [ "$kept" != 1 ] || rm -f "./$temporary"
    if open_new; then ok; else refuse "$why"; fi
}

join_file() {
    kept=$6
    if ! locate "$1" "$2" "$3" "$4"; then
        refuse "$why"
        return
    fi
    decode "$5"
    temporary=$value
    if is_ours && command exec 5<>"./$temporary"; then
        [ "$kept" = 1 ] || keep "$PWD/$temporary"
        set_target
        ok
    else
        refuse "$PWD/$temporary is gone"
    fi
}

# take LENGTH CODEC: writes so much of the terminal's input to standard output.
take() {
    if [ "$2" = - ]; then
        head -c "$1"
    else
        head -c "$1" | "$2" -dc
    fi
}

append() {
    error=$(take "$1" "$2" 2>&1 >&5) || give_up "$error"
    say "$number" "credit $1"
}

write_at() {
    error=$(take_at "$1" "$2" "$3" 2>&1) || give_up "$error"
    say "$number" "credit $1"
}

# take_at LENGTH CODEC BLOCK: dd moves the position that the two commands share, the opening's own.
# A function, since bash 5.2 loses the 1 of 1<> inside of a substitution.
take_at() {
    {
        dd bs=1048576 seek="$3" count=0 conv=notrunc </dev/null 2>/dev/null && take "$1" "$2"
    } 1<>"$target"
}

hash_parts() {
    sums=
    part=$1
    left=$2
    while [ "$left" -gt 0 ]; do
        sums="$sums $(dd bs=1048576 skip=$((part * 8)) count=8 <"$target" 2>/dev/null | hash_input)"
        part=$((part + 1))
        left=$((left - 1))
    done
    say "$number" "sum$sums"
}

close_file() {
    exec 5>&-
    forget
}

empty_file() {
    # A new one in its place: sh has no way to cut an open file.
    exec 5>&-
    rm -f "./$temporary"
    if open_new; then ok; else refuse "$why"; fi
}

end_file() {
    length=$(wc -c <"$target" | tr -d " ")
    sum=-
    [ "$1" = - ] || sum=$(hash_input <"$target")
    if [ "$length" != "$2" ] || [ "$sum" != "$1" ]; then
        rm -f "./$temporary"
        close_file
        refuse "what arrived is not what was sent"
        return
    fi
    mode=$4
    if [ -f "./$name" ] && [ ! -h "./$name" ]; then
        # GNU and busybox, then BSD.
        [ "$3" = 1 ] || mode=$(stat -c %a "./$name" 2>/dev/null || stat -f %Lp "./$name" 2>/dev/null || echo "$4")
        if [ "$(id -u)" = 0 ]; then
            owner=$(stat -c %u:%g "./$name" 2>/dev/null || stat -f %u:%g "./$name")
            chown "$owner" "$target" 5>&5 2>/dev/null
        fi
    fi
    # ksh gives no descriptor above 2 to a program unless it is named beside it.
    if error=$({
        chmod "$mode" "$target" 5>&5 &&
            { [ "$5" = - ] || TZ=UTC0 touch -t "$5" "$target" 5>&5; } &&
            put "$temporary"
    } 2>&1); then
        close_file
        ok
    else
        rm -f "./$temporary"
        close_file
        refuse "$error"
    fi
}

leave_file() {
    [ "$kept" = 1 ] || rm -f "./$temporary"
    close_file
    ok
}

release_file() {
    close_file
    ok
}

# --- addresses: they are secrets, so that they go to programs as input and never as arguments

has_curl() { command -v curl >/dev/null 2>&1; }

# fetch URL FILE: - is standard output.
fetch() {
    if has_curl; then
        curl -sS -f -g -o "$2" -K - <<END
url = "$1"
END
    else
        wget -q -O "$2" -i - <<END
$1
END
    fi
}

pull() {
    if error=$(fetch "$1" - 2>&1 >&5); then ok; else refuse "$error"; fi
}

hash_file() {
    if ! locate "$1" "$2" "$3" "$4"; then
        refuse "$why"
    elif [ -h "./$name" ]; then
        refuse "$PWD/$name is a link on the server, which is not followed"
    elif [ "$5" = - ]; then
        say "$number" "sum $(hash_input <"./$name")"
    else
        say "$number" "sum $(head -c "$5" <"./$name" | hash_input)"
    fi
}

push() {
    if ! locate "$1" "$2" "$3" "$4"; then
        refuse "$why"
    elif [ -h "./$name" ]; then
        refuse "$PWD/$name is a link on the server, which is not followed"
    elif error=$(push_part "$5" "$6" "$7" "$8" 2>&1); then
        ok
    else
        refuse "$error"
    fi
}

# push_part FIRST LENGTH WHOLE URL
push_part() {
    if has_curl && [ "$3" = 1 ]; then
        curl -sS -f -g -o /dev/null -T "./$name" -K - <<END
url = "$4"
END
    elif has_curl; then
        # Of a pipe curl does not know the length, and a bucket takes nothing without one. The
        # address goes by descriptor 8, since standard input is the content.
        {
            tail -c +"$(($1 + 1))" <"./$name" | head -c "$2" |
                curl -sS -f -g -o /dev/null -T - -H "Transfer-Encoding:" -H "Content-Length: $2" -K /dev/fd/8 8<&8
        } 8<<END
url = "$4"
END
    elif [ "$3" = 1 ]; then
        wget -q -O /dev/null --method=PUT --body-file="./$name" -i - <<END
$4
END
    else
        echo "curl is needed for a file of this size"
        return 1
    fi
}

# --- archives: unpacked in a private folder, the stage, which descriptor 4 holds -----------------

make_stage() {
    if ! locate "$1" "$2" "$3" "$4"; then
        refuse "$why"
    else
        stage=$PWD/$name
        keep "$stage"
        current=
        if error=$(mkdir "./$name" 2>&1) && enter . "$name"; then
            exec 4<.
            ok
        else
            forget
            refuse "${error:-$why}"
        fi
    fi
}

# into_stage [SUB]: for a subshell.
into_stage() { cd -P "/proc/self/fd/4/${1:-.}" || return 1; }

# unpack_options TIMES: modes as in the archive, owners as of this user; with m not the times.
unpack_options() {
    tar_options=xpof
    [ "$1" != m ] || tar_options=xpmof
}

unpack() {
    unpack_options "$1"
    ok
    {
        while IFS= read -r line; do
            set -- $line
            [ "$2" != 0 ] || exit 0
            take "$2" "$3" || exit 1
            say "$1" "credit $2"
        done
    } | (into_stage && tar $tar_options -) >"$private/e" 2>&1 || give_up "$(cat "$private/e")"
}

unpack_from() {
    unpack_options "$1"
    archive=$private/a
    if ! error=$(fetch "$4" "$archive" 2>&1); then
        refuse "$error"
    elif [ "$(hash_input <"$archive")" != "$3" ]; then
        refuse "what arrived is not what was sent"
    elif error=$({ unpacked_by "$2" <"$archive" | (into_stage && tar $tar_options -); } 2>&1); then
        ok
    else
        refuse "$error"
    fi
    rm -f "$archive"
}

unpacked_by() {
    if [ "$1" = - ]; then cat; else "$1" -dc; fi
}

verify() {
    # sha256sum marks a name that it escapes with a backslash in front of the hash.
    sum=$( (into_stage && find . -type f -exec $hash_files {} +) |
        sed "s/^\\\\//" | cut -c1-64 | sort | hash_input)
    say "$number" "sum $sum"
}

spread() {
    decode "$1"
    sub=$value
    # Both the stage and the folder must be held, and sh has one current folder.
    if [ "$has_handles" != 1 ]; then
        refuse "no /proc"
        return
    fi
    if ! go_to "$2" "$3"; then
        refuse "$why"
        return
    fi
    exec 6<.
    error=$( (into_stage "$sub" &&
        find . ! -name . -prune ! -type d -exec sh -c "$spread_program" /proc/self/fd/6/ "$4" {} + 6<&6) 2>&1)
    failed=$?
    exec 6<&-
    # find tells only of some of its commands that they failed.
    if [ "$failed" = 0 ] && [ -z "$error" ]; then ok; else refuse "$error"; fi
}

clear_stage() {
    exec 4<&-
    rm -rf "$stage"
    forget
    ok
}

while IFS= read -r line; do
    set -- $line
    number=$1
    command=$2
    shift 2
    case "$command" in
    tools) send_tools ;;
    run) run_script "$@" ;;
    folder) make_folder "$@" ;;
    link) make_link "$@" ;;
    attributes) set_attributes "$@" ;;
    begin) begin_file "$@" ;;
    join) join_file "$@" ;;
    write) append "$@" ;;
    write-at) write_at "$@" ;;
    sums) hash_parts "$@" ;;
    empty) empty_file ;;
    pull) pull "$@" ;;
    end) end_file "$@" ;;
    leave) leave_file ;;
    release) release_file ;;
    hash) hash_file "$@" ;;
    push) push "$@" ;;
    stage) make_stage "$@" ;;
    unpack) unpack "$@" ;;
    unpacked) ok ;;
    unpack-from) unpack_from "$@" ;;
    verify) verify ;;
    spread) spread "$@" ;;
    clear) clear_stage ;;
    quit)
        ok
        exit 0
        ;;
    *) exit 1 ;;
    esac
done
