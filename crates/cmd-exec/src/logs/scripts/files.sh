# shellcheck shell=sh
# shellcheck disable=SC2086 # Lists of names without blanks are split into words on purpose.
# shellcheck disable=SC3013 # Every shell has -ef and -nt, which POSIX has since 2024.
# shellcheck disable=SC2154 # The client sets, in front of this text: follow, lines, is_resumed.
#
# Sends the lines of files, in numbered pieces that say where in which file they end, so that
# another run of this script can go on behind the last piece that its client has.
#
# The client puts in front of this text:
#
#   follow=1, or empty     whether what is written later is sent too
#   lines=NUMBER           lines from before that are sent of each file
#   re=TEXT                an extended regular expression; lines that do not match stay here
#   is_resumed=1           an earlier run has sent something: a file that has no place of its own
#                          is new since then, and is sent from its beginning
#   has_pattern=1, or empty    whether re counts
#   find_place PATH        a function that sets $place to "INODE OFFSET HEAD SUM SKIP", from the
#                          last piece of PATH (as DATA) that the client has; to nothing where there
#                          is none
#   set -- PATTERN...      paths, or globs of paths
#
# What is sent, each a line; DATA is base64, or "%" and hexadecimal digits:
#
#   file NUMBER PATH                the path (as DATA) that this number stands for
#   at NUMBER INODE OFFSET HEAD SUM SKIP DATA
#                                   bytes of the file; behind them the place is this one
#   next NUMBER                     another file has taken the place of this one
#   missing PATH, unreadable PATH, folder PATH, special PATH   (as DATA) nothing can be read there
#   appeared NUMBER, truncated NUMBER, unfinished NUMBER    what happened to a file; unfinished:
#                                   what an earlier run had left of it is not there any more
#   pattern                         re is no extended regular expression
#   many                            these are more files than can be followed
#   end                             all has been sent
#
# A place: INODE; OFFSET of the next byte; SUM, a checksum of the first HEAD bytes, by
# which a file is known again that was renamed or copied, and told from another one to which the
# system has given the same inode; SKIP, how many lines that match are still left out.

LC_ALL=C
export LC_ALL

# Bytes of a piece; a multiple of three, so that base64 needs no padding in between.
PIECE=393216
# A line of more bytes is searched in parts.
LONGEST_LINE=1048576
# Bytes by which a file is known again.
HEAD=256
# More files than this are refused: each has a process that holds it open.
MOST_FILES=100
# A file that was replaced is left when it has been silent for so many looks of 0.2 s each: its
# writer may still have it open.
LOOKS_BEFORE_LEAVING=5

# --- text
# -----------------------------------------------------------------------------------------

if base64 -w0 </dev/null >/dev/null 2>&1; then
    encode() { base64 -w0; }
elif command -v base64 >/dev/null 2>&1; then
    encode() { base64 | tr -d '\n'; }
elif command -v openssl >/dev/null 2>&1; then
    encode() { openssl base64 -A; }
else
    encode() {
        printf '%%'
        od -An -v -tx1 | tr -d ' \n'
    }
fi

# Not every busybox has cksum.
if command -v cksum >/dev/null 2>&1; then
    checksum() { cksum; }
else
    checksum() { md5sum; }
fi

# Sets $count to the number of bytes that the text $1 of encode stands for.
count_encoded() {
    case "$1" in
    %*) count=$(((${#1} - 1) / 2)) ;;
    *==) count=$((${#1} * 3 / 4 - 2)) ;;
    *=) count=$((${#1} * 3 / 4 - 1)) ;;
    *) count=$((${#1} * 3 / 4)) ;;
    esac
}

# The lines of standard input that are wanted.
if [ -z "$has_pattern" ]; then
    match() { cat; }
elif echo x | grep -a -q x 2>/dev/null; then
    match() { grep -a -E -e "$re"; }
else
    # The grep of busybox takes every file for text.
    match() { grep -E -e "$re"; }
fi

# tell WORD PATH
tell() { printf '%s %s\n' "$1" "$(printf %s "$2" | encode)"; }

# --- one file: the variables path, source, number, inode, offset, head, sum, skip
# -----------------------------------------------------------------------------------------

# read_range FROM LENGTH: so many bytes of $source. dd moves to a block without reading what is
# before it, which not every tail does.
read_range() {
    dd bs=65536 skip=$(($1 / 65536)) count=$((($1 % 65536 + $2 + 65535) / 65536)) \
        <"$source" 2>/dev/null | tail -c "+$(($1 % 65536 + 1))" | head -c "$2"
}

# Sets $sum to the checksum of the first $head bytes.
sum_head() {
    sum=0
    [ "$head" = 0 ] || sum=$(head -c "$head" <"$source" 2>/dev/null | checksum)
    sum=${sum%% *}
}

# After $offset has moved.
extend_head() {
    [ "$head" -lt "$HEAD" ] && [ "$offset" -gt "$head" ] || return 0
    head=$offset
    [ "$head" -le "$HEAD" ] || head=$HEAD
    sum_head
}

# Sets $inode to that of $source.
look_at_inode() {
    inode=$(ls -diL "$source" 2>/dev/null)
    inode=${inode#"${inode%%[0-9]*}"}
    inode=${inode%% *}
}

# Sets $size to the bytes of $source.
look_at_size() {
    size=$(wc -c <"$source" 2>/dev/null) || size=0
    size=$((size))
}

begin_source() {
    look_at_inode
    offset=0
    head=0
    sum=0
    skip=0
}

# send_piece DIGITS
send_piece() {
    extend_head
    # Where printf is a program of its own, as in mksh, it takes no argument of this length.
    echo "at $number $inode $offset $head $sum $skip $1"
}

# Sends one piece of what lies between $offset and $size; with $is_last a line without an end too.
# Fails where nothing is to be sent yet.
send_next() {
    length=$((size - offset))
    [ "$length" -gt 0 ] || return 1
    if [ -z "$has_pattern" ]; then
        [ "$length" -le "$PIECE" ] || length=$PIECE
        digits=$(read_range "$offset" "$length" | encode)
        # The file may have become shorter meanwhile.
        count_encoded "$digits"
        [ "$count" -gt 0 ] || return 1
        offset=$((offset + count))
        send_piece "$digits"
        return 0
    fi
    # Whole lines alone can be searched.
    [ "$length" -le "$LONGEST_LINE" ] || length=$LONGEST_LINE
    whole=$(read_range "$offset" "$length" | wc -l)
    whole=$((whole))
    if [ "$whole" -gt 0 ]; then
        length=$(read_range "$offset" "$length" | head -n "$whole" | wc -c)
        length=$((length))
    elif [ -z "$is_last" ] && [ "$length" -lt "$LONGEST_LINE" ]; then
        return 1
    fi
    left_out=$skip
    if [ "$skip" -gt 0 ]; then
        found=$(read_range "$offset" "$length" | match | wc -l)
        skip=$((skip > found ? skip - found : 0))
    fi
    digits=$(read_range "$offset" "$length" | match | tail -n "+$((left_out + 1))" | encode)
    offset=$((offset + length))
    send_piece "$digits"
}

# Sends all that $source holds now.
send_rest() {
    look_at_size
    while send_next; do :; done
}

# As far as $size: moves $offset to where the last $lines lines begin, or $skip to the number of
# lines that match before the last $lines of these.
skip_early_lines() {
    if [ -n "$has_pattern" ]; then
        skip=$(read_range 0 "$size" | match | wc -l)
        skip=$((skip > lines ? skip - lines : 0))
        return
    fi
    window=65536
    while :; do
        from=0
        [ "$size" -le "$window" ] || from=$((size - window))
        length=$(read_range "$from" $((size - from)) | tail -n "$lines" | wc -c)
        offset=$((size - length))
        # In front of the first line that is sent another one ends, so that it is whole.
        if [ "$from" = 0 ] || [ "$offset" -gt "$from" ]; then return; fi
        window=$((window * 8))
    done
}

# --- files that were rotated
# -----------------------------------------------------------------------------------------

# Whether $source begins as the place at hand says, and is long enough.
is_known() {
    look_at_size
    [ "$size" -ge "$offset" ] || return 1
    if [ "$head" = 0 ]; then
        known=$inode
        look_at_inode
        [ "$known" = "$inode" ] && return
        inode=$known
        return 1
    fi
    known=$sum
    sum_head
    [ "$known" = "$sum" ] && return
    sum=$known
    return 1
}

# Sets $rotated to the names that files of $path get when they are rotated, oldest first: with a
# number or a date behind. What was compressed cannot be gone on with.
list_rotated() {
    set --
    for sibling in "$path".[0-9]* "$path"-[0-9]*; do
        case "$sibling" in
        *.gz | *.xz | *.bz2 | *.zst | *.Z) continue ;;
        esac
        if [ -f "$sibling" ] && [ -r "$sibling" ]; then set -- "$@" "$sibling"; fi
    done
    rotated=
    [ $# = 0 ] || rotated=$(ls -1dtr -- "$@")
}

# send_later OLD: the files that were rotated away after OLD was, whole.
send_later() {
    old=$1
    list_rotated
    keep_ifs=$IFS
    IFS='
'
    # Behind its own name, where it has one; the times of two files may be the same.
    is_later=
    has_name=
    for sibling in $rotated; do
        if [ "$sibling" -ef "$old" ]; then has_name=1; fi
    done
    for sibling in $rotated; do
        IFS=$keep_ifs
        if [ "$sibling" -ef "$old" ]; then
            is_later=1
        elif [ -n "$is_later" ] || { [ -z "$has_name" ] && [ "$sibling" -nt "$old" ]; }; then
            next_source "$sibling"
            send_rest
        fi
    done
    IFS=$keep_ifs
}

# next_source FILE: what comes next is another file's.
next_source() {
    source=$1
    begin_source
    echo "next $number"
}

# Sends what is left of the file that the variables tell of, which was rotated away or copied since,
# and the files that came between that one and the one at $path. Fails where it cannot be found.
send_left_behind() {
    list_rotated
    found=
    keep_ifs=$IFS
    IFS='
'
    for sibling in $rotated; do
        IFS=$keep_ifs
        source=$sibling
        is_known || continue
        # Files may begin alike. Of a file that was renamed the inode tells, and a copy is the
        # newest of those that begin so.
        found=$sibling
        was=$inode
        look_at_inode
        [ "$was" != "$inode" ] || break
        inode=$was
    done
    IFS=$keep_ifs
    [ -n "$found" ] || return
    source=$found
    look_at_inode
    before=$is_last
    is_last=1
    send_rest
    send_later "$found"
    is_last=$before
}

# Sets the variables to the $place at which the client is, and sends what lies between that and the
# beginning of the file at $path, if that is another one now. Afterwards $source is what it was.
resume_source() {
    set -- $place
    inode=$1
    offset=$2
    head=$3
    sum=$4
    skip=$5
    now=$source
    if [ -n "$now" ]; then
        was=$inode
        look_at_inode
        # A file that was copied and emptied keeps its inode, and begins otherwise.
        if [ "$inode" = "$was" ] && is_known; then return; fi
        inode=$was
    fi
    send_left_behind || [ "$offset" = 0 ] || echo "unfinished $number"
    if [ -n "$now" ]; then
        next_source "$now"
    else
        source=
    fi
}

# --- all of them
# -----------------------------------------------------------------------------------------

# store: the variables of the file at hand, under its number.
store() {
    for name in path source inode offset head sum skip holder silent; do
        eval "${name}_$number=\$$name"
    done
}

# load NUMBER
load() {
    number=$1
    for name in path source inode offset head sum skip holder silent; do
        eval "$name=\$${name}_$number"
    done
}

# Runs with the file as descriptor 5: another process has the file from its first moment on, and
# holds it open after it was renamed or removed. Sets $holder.
start_holder() {
    main=$$
    (
        exec </dev/null >/dev/null 2>&1
        while kill -0 "$main"; do sleep 5; done
    ) &
    holder=$!
}

# Sets $source to the file that $path is now, held open where the system lets others look at it.
# Fails where $path cannot be read.
open_source() {
    source=$path
    holder=
    if [ -z "$follow" ] || [ ! -e /proc/self/fd ]; then
        [ -r "$path" ]
        return
    fi
    start_holder 5<"$path" 2>/dev/null || return 1
    [ -r "/proc/$holder/fd/5" ] && source=/proc/$holder/fd/5
    holders="$holders $holder"
}

close_source() {
    [ -z "$holder" ] || kill "$holder" 2>/dev/null
    holder=
}

# Whether nothing can be read at $path because a folder above it may not be entered.
is_behind_closed_folder() {
    above=${path%/*}
    while [ -n "$above" ] && [ ! -e "$above" ]; do above=${above%/*}; done
    [ -n "$above" ] && [ -d "$above" ] && [ ! -x "$above" ]
}

# Says once why $path cannot be read.
complain() {
    if [ -d "$path" ]; then
        why=folder
    elif [ -e "$path" ] && [ ! -f "$path" ]; then
        why=special
    elif [ -e "$path" ] || is_behind_closed_folder; then
        why=unreadable
    else
        why=missing
    fi
    case "$complaints" in
    *"$nl$why $path$nl"*) ;;
    *)
        complaints="$complaints$nl$why $path$nl"
        tell "$why" "$path"
        ;;
    esac
}

# Takes up the file at $path, if there is one that was not taken up yet.
take_up() {
    case "$taken" in
    *"$nl$path$nl"*) return ;;
    esac
    place=
    [ -z "$is_resumed" ] || find_place "$(printf %s "$path" | encode)"
    # What was followed and has no successor yet may have left a rest under another name.
    if [ ! -f "$path" ] || [ ! -r "$path" ]; then
        complain
        [ -n "$place" ] && [ ! -e "$path" ] || return
        source=
        holder=
    elif ! open_source; then
        complain
        return
    fi
    if [ "$files" -ge "$MOST_FILES" ]; then
        echo "many"
        exit 1
    fi
    files=$((files + 1))
    number=$files
    silent=0
    taken="$taken$nl$path$nl"
    tell "file $number" "$path"
    if [ -n "$place" ]; then
        resume_source
    else
        begin_source
        if [ -z "$is_resumed$is_late" ]; then
            look_at_size
            skip_early_lines
            # An end that is known: another run goes on there, even if nothing is written until then.
            send_piece ""
        elif [ -n "$is_late" ]; then
            echo "appeared $number"
        fi
    fi
    store
}

# Takes up the files that the patterns stand for now.
take_up_all() {
    for pattern; do
        # shellcheck disable=SC2088 # The client sends it as it was typed.
        case "$pattern" in
        "~/"*) pattern=$HOME/${pattern#"~/"} ;;
        esac
        # A name that is there is no pattern, whatever it holds.
        if [ -e "$pattern" ]; then
            path=$pattern
            take_up
            continue
        fi
        keep_ifs=$IFS
        IFS=
        for path in $pattern; do
            IFS=$keep_ifs
            take_up
        done
        IFS=$keep_ifs
    done
}

# Whether another file is at $path than the one at hand.
is_replaced() {
    [ -e "$path" ] || return
    if [ "$source" != "$path" ]; then
        [ ! "$path" -ef "$source" ]
        return
    fi
    was=$inode
    look_at_inode
    [ "$was" != "$inode" ] || return
    inode=$was
}

# The file at hand was emptied, or is not the one that it was.
begin_again() {
    echo "truncated $number"
    now=$source
    # It may have been copied first.
    [ "$head" = 0 ] || send_left_behind
    source=$now
    next_source "$source"
}

# One look at the file at hand. Sets $is_busy where something was sent, and $is_leaving where
# another file is about to be taken up.
look() {
    if [ -z "$source" ]; then
        # It has gone, and nothing has taken its place.
        if [ -f "$path" ] && [ -r "$path" ] && open_source; then
            next_source "$source"
            is_busy=1
        fi
        return
    fi
    look_at_size
    if [ "$size" -lt "$offset" ] || { [ "$size" -gt "$offset" ] && ! is_known; }; then
        if [ "$source" = "$path" ] && is_replaced; then
            # Without a way to hold it open the old one is to be found by its name alone.
            place="$inode $offset $head $sum $skip"
            resume_source
        else
            begin_again
        fi
        is_busy=1
        return
    fi
    # One piece for each file in turn.
    if send_next; then
        is_busy=1
        silent=0
        return
    fi
    is_replaced || return 0
    is_leaving=1
    silent=$((silent + 1))
    [ "$silent" -gt "$LOOKS_BEFORE_LEAVING" ] || return 0
    is_last=1
    send_rest
    send_later "$source"
    is_last=
    close_source
    silent=0
    if open_source; then
        next_source "$source"
    else
        source=
    fi
}

nl='
'
files=0
taken=
complaints=
holders=
is_last=
is_late=
trap 'kill $holders 2>/dev/null' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
# grep says 2 of an expression that is none.
status=0
echo | match >/dev/null || status=$?
if [ "$status" -gt 1 ]; then
    echo pattern
    exit 1
fi
take_up_all "$@"
if [ -z "$follow" ]; then
    is_last=1
    n=0
    while [ "$n" -lt "$files" ]; do
        n=$((n + 1))
        load "$n"
        [ -z "$source" ] || send_rest
    done
    echo end
    exit 0
fi
is_late=1
idle=0
while :; do
    is_busy=
    is_leaving=
    n=0
    while [ "$n" -lt "$files" ]; do
        n=$((n + 1))
        load "$n"
        look
        store
    done
    # What is written all the time is read without a pause.
    if [ -n "$is_busy" ]; then
        idle=0
        continue
    fi
    # Files that are new since the last look.
    take_up_all "$@"
    idle=$((idle + 1))
    if [ "$idle" -le 10 ] || [ -n "$is_leaving" ]; then
        sleep 0.2 2>/dev/null || sleep 1
    else
        sleep 1
    fi
done
