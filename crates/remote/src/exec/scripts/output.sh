# shellcheck shell=sh
# shellcheck disable=SC2086 # Lists of numbers are split into words on purpose.
# shellcheck disable=SC2154 # Set in the small files that recall reads, and in engine.sh.
# shellcheck disable=SC2034 # Read in engine.sh.
#
# The second part of the text whose head is in engine.sh: what the command writes, on its way to the
# client.

SEGMENT_BYTES=1048576
# Segments of both streams together. A segment has up to SEGMENT_BYTES and one read of the pump
# more, and both pumps may begin one at the same moment: 30 times 17 / 16 MiB are less than 32 MiB.
RING_SEGMENTS=29
# Of each stream so many are kept at least once they were sent,
HISTORY=10
# and more as long as there is room for so many that were not.
AHEAD=4

# count_kept: sets $kept to the number of segments of both streams, with those that are being
# written.
count_kept() {
    kept=0
    for stream in out err; do
        at=0
        recall "$stream.at"
        oldest=0
        recall "$stream.sent"
        kept=$((kept + at - oldest + 1))
    done
}

ring_has_room() {
    count_kept
    [ "$kept" -le "$RING_SEGMENTS" ]
}

# pump NAME: what the FIFO gives, into segments. Where there is perl, supervise.pl does it.
pump() {
    exec <"$d/$1"
    name=$1
    segment=0
    length=0
    while :; do
        # The first has room in any case: neither stream waits for the other one to begin.
        until [ "$length" -gt 0 ] || [ "$segment" = 0 ] || ring_has_room; do pause; done
        copy_once || {
            # No room for a word of it either, perhaps.
            oldest=0
            recall "$name.sent"
            rm -f "$d/$name.$oldest"
            echo "${told##*: }" >"$d/failed"
            ring
            return
        }
        [ "$copied" -gt 0 ] || break
        length=$((length + copied))
        note "$name.at" "at=$segment end=$length"
        if [ "$length" -ge "$SEGMENT_BYTES" ]; then
            # First, since attach goes on there as soon as it finds the end of this one.
            : >"$d/$name.$((segment + 1))"
            echo "$length" >"$d/$name.$segment.end"
            segment=$((segment + 1))
            length=0
            note "$name.at" "at=$segment end=0"
        fi
        ring
    done
    echo "$segment $length" >"$d/$name.last"
    ring
}

# copy_once: one read, however little it gives: what was written is on its way at once.
copy_once() {
    told=$(LC_ALL=C dd bs=65536 count=1 2>&1 >>"$d/$name.$segment") && count_copied
}

# Sets $copied to what dd says in $told: "A+B records in", the same for out, and then, where it was
# built to say so, the number of bytes.
count_copied() {
    case "$told" in
    1+0*) copied=65536 ;;
    0+0*) copied=0 ;;
    *)
        copied=${told##*out?}
        copied=${copied%% *}
        case "$copied" in
        "" | *[!0-9]*) copied=$(($(wc -c <"$d/$name.$segment") - length)) ;;
        esac
        ;;
    esac
}

attach() {
    turn=$1
    linger=$6
    exec 3>&1 4<>"$d/bell" 9<>"$d/life"
    # A session that is late must not take the run from the one that replaced it.
    now=0
    recall turn
    [ "$now" -le "$turn" ] || exit 0
    note turn "now=$turn"
    # Whoever is attached still finds that it is not its turn. In the background: a bell that was
    # rung all the time while nobody was here takes no more before it is read below.
    [ "$turn" = 1 ] || { ring & }
    # What the attach before this one has left.
    [ "$turn" = 1 ] || end_writers
    echo "$$" >"$d/attached"
    export OPS_ATTACHED="$d"
    beats=
    listener=
    unborn=0
    # The agent passes on 0x03 as SIGINT and 0x1C as SIGQUIT, and reads no more until this shell has
    # ended; the client then attaches anew.
    trap "signal_command INT; note leaving gone=\$turn; depart" INT
    trap "end_all; depart_obeying" QUIT
    encode=
    is_encoding_chosen=
    beat &
    beats=$!
    echo "$beats" >"$d/beats"
    open_stream out 7 "$2" "$3"
    out_segment=$2
    out_offset=$3
    open_stream err 8 "$4" "$5"
    err_segment=$4
    err_offset=$5
    running=
    # What a client takes for granted.
    input_told="0 0 "
    stored=0
    handed=0
    up=
    up_told=
    while is_client; do
        if [ ! -e "$d/engine" ]; then
            printf "!gone\n" >&3
            break
        fi
        [ -n "$running" ] || tell_running
        tell_input
        if [ -e "$d/output" ] && [ -s "$d/p" ]; then
            read -r pid <"$d/p"
            read -r output <"$d/output"
            trap "acknowledge; depart_obeying" QUIT
            tell_last "detached $pid $output"
            break
        fi
        # Looked at before the streams: what they hold then is all.
        done=
        [ ! -s "$d/status" ] || done=1
        segment=$out_segment
        offset=$out_offset
        send_stream out 7
        out_segment=$segment
        out_offset=$offset
        segment=$err_segment
        offset=$err_offset
        send_stream err 8
        err_segment=$segment
        err_offset=$offset
        if [ -e "$d/failed" ]; then
            read -r why <"$d/failed"
            tell_last "failed $why"
            break
        fi
        if [ -n "$done" ]; then
            tell_status || printf "!gone\n" >&3
            break
        fi
        hear_ring
        if [ "$rung" = beat ]; then
            # An attach that was replaced may have written an older word over this one.
            note_sent out "$out_segment"
            note_sent err "$err_segment"
            is_born || break
            is_supervised || break
        fi
    done
    depart
}

# is_born: fails where the session that has claimed the start was ended in that very moment. What is
# left of it starts nothing any more, and nobody else may.
is_born() {
    [ ! -s "$d/supervise" ] || return 0
    if [ ! -e "$d/claim" ]; then
        # A perl that is there, and that cannot be run.
        [ -z "${launched:-}" ] || sh "$d/engine" launch "$d" $launched 4>&- 7>&- 8>&- 9>&-
        launched=
        return 0
    fi
    unborn=$((unborn + 1))
    [ "$unborn" -ge 3 ] || return 0
    printf "!unstarted\n" >&3
    return 1
}

# is_supervised: fails where the processes of the run were killed, so that nobody would ever tell
# how the command has ended. Another keeper takes the place of one that was.
is_supervised() {
    has_keeper || start_keeper
    [ -s "$d/supervise" ] || return 0
    read -r process <"$d/supervise"
    # Looked at in this order: it ends when it has written the status.
    if is_of_run "$process" || [ -s "$d/status" ] || [ ! -e "$d/engine" ]; then return 0; fi
    printf "!killed\n" >&3
    end_all
    return 1
} 2>/dev/null

start_keeper() {
    { read -r _ && read -r patience; } <"$d/keeper"
    (
        # By this and by descriptor 7 the processes of an attach are found.
        unset OPS_ATTACHED
        apart sh "$d/engine" keep "$d" "$patience"
    ) </dev/null >/dev/null 2>&1 3>&- 4>&- 7>&- 8>&- 9>&- &
}

# hear_ring: waits for a ring, and sets $rung to what it said.
#
# In mksh a signal ends the builtin wait and not the builtin read, so another process reads.
case "${KSH_VERSION:-}" in
*MIRBSD* | *LEGACY*)
    hear_ring() {
        (
            exec >/dev/null 3>&- 9>&-
            read -r rung <&4
            [ "$rung" = beat ]
        ) &
        listener=$!
        rung=
        ! wait "$listener" || rung=beat
        listener=
    }
    ;;
*) hear_ring() { read -r rung <&4; } ;;
esac

# Tells the client that its last word was heard.
depart_obeying() {
    printf "!ended\n" >&3
    depart
}

depart() {
    # Numbers of processes, or nothing. A shell that waits for its sleep may hear of another signal
    # than this one when that is over, and holds the output of this session until then.
    kill -KILL $beats $listener 2>/dev/null
    noted=
    # A redirection that fails ends a shell whose command is a special one, as ":" is.
    { read -r noted <"$d/beats" && [ "$noted" = "$beats" ] && printf "" >"$d/beats"; } 2>/dev/null
    exit 0
}

# The wake-up may have been meant for the attach that took over.
is_client() {
    now=$turn
    recall turn
    [ "$now" = "$turn" ] && return
    if [ "$now" -lt "$turn" ]; then
        # One that was late has not seen this one, and written over its word.
        note turn "now=$turn"
        return 0
    fi
    ring
    return 1
}

# The first who notices that nobody listens any more: then the agent has let go, and with sudo in
# between its kill has not come here. A shell that was killed is there until its agent waits for it,
# which it does when nobody holds the output any more.
#
# It rings too: a signal that comes between the last look at signals and the call of read inside of
# the builtin read does not interrupt that, and its trap waits for the next ring.
beat() {
    exec 9>&- </dev/null 2>/dev/null
    trap "" PIPE
    # A shell that departs just now does not know this process yet.
    while sleep 3 >/dev/null 3>&- 4>&- && is_of_run "$$"; do
        printf "!beat\n" >&3 || {
            kill "$$"
            exit 0
        }
        echo beat >&4
    done
}

# choose_encoding LENGTH: how so many bytes are sent. Without lines base64 is faster; a short output
# is not worth the process that finds out whether it can be had.
choose_encoding() {
    if [ -n "$encode" ] && { [ -n "$is_encoding_chosen" ] || [ "$1" -lt 32768 ]; }; then return; fi
    if ! command -v base64 >/dev/null 2>&1; then
        is_encoding_chosen=1
        if command -v openssl >/dev/null 2>&1; then
            encode="openssl base64"
        else
            encode="od -An -v -tx1"
            printf "!hex\n" >&3
        fi
    elif [ "$1" -lt 32768 ]; then
        encode=base64
    else
        is_encoding_chosen=1
        encode=base64
        if base64 -w0 </dev/null >/dev/null 2>&1; then encode="base64 -w0"; fi
    fi
}

# open_stream NAME DESCRIPTOR SEGMENT OFFSET
open_stream() {
    at=0
    recall "$1.at"
    if [ "$3" -lt "$at" ] && [ ! -e "$d/$1.$3.end" ]; then
        printf "!gone\n" >&3
        exit 1
    fi
    note_sent "$1" "$3"
    # Before the command has written anything there is no segment at all; see send_stream. By its
    # descriptors this process is found, see end_writers.
    if [ "$3:$4" = 0:0 ]; then
        eval "exec $2<\"\$d/turn\""
        return
    fi
    : >>"$d/$1.$3"
    eval "exec $2<\"\$d/$1.$3\""
    # One read of a file gives as much as is asked for, and moves its position.
    [ "$4" = 0 ] || eval "dd bs=$4 count=1 <&$2 >/dev/null 2>&1"
}

# send_stream NAME DESCRIPTOR: sends what there is from $segment and $offset on, and moves them.
send_stream() {
    while :; do
        full=
        # Looked at before the length: the stream that has ended has no other one.
        whole=
        [ ! -s "$d/$1.last" ] || whole=1
        if [ -e "$d/$1.$segment.end" ]; then
            read -r end <"$d/$1.$segment.end" || return 0
            full=1
            whole=1
        else
            at=
            recall "$1.at"
            [ -n "$at" ] || return 0
            # It was filled between the two looks.
            [ "$at" = "$segment" ] || continue
        fi
        if [ "$end" -gt "$offset" ]; then
            choose_encoding $((end - offset))
            [ "$segment:$offset" != 0:0 ] || eval "exec $2<\"\$d/$1.0\""
            printf "!%s %s %s\n" "$1" "$segment" "$offset" >&3
            # Without life: this shell may be killed while these wait for a client that is away.
            if [ -n "$whole" ] || [ -r "/proc/self/fdinfo/$2" ]; then
                eval "$encode <&$2 >&3 9>&-" || depart
                offset=$end
                # What the pump has added meanwhile was sent too. "pos:" stands in the first line.
                [ -n "$whole" ] || read -r _ offset <"/proc/self/fdinfo/$2"
            else
                {
                    exec 9>&-
                    eval "exec dd bs=$((end - offset)) count=1 <&$2 2>/dev/null"
                } | $encode >&3 9>&- || depart
                offset=$end
            fi
        fi
        [ -n "$full" ] || return 0
        printf "!end %s %s %s\n" "$1" "$segment" "$offset" >&3
        segment=$((segment + 1))
        offset=0
        note_sent "$1" "$segment"
        eval "exec $2<\"\$d/$1.$segment\""
    done
}

# note_sent NAME SEGMENT: all before SEGMENT was sent. Removes what was sent longest ago, where the
# ring needs the room.
note_sent() {
    is_client || depart
    # Nothing was sent that could be removed.
    [ "$2" -gt "$HISTORY" ] || return 0
    count_kept
    oldest=0
    recall "$1.sent"
    first=$oldest
    while [ "$kept" -gt $((RING_SEGMENTS - AHEAD)) ] && [ $(($2 - oldest)) -gt "$HISTORY" ]; do
        rm -f "$d/$1.$oldest" "$d/$1.$oldest.end"
        oldest=$((oldest + 1))
        kept=$((kept - 1))
    done
    [ "$oldest" = "$first" ] || note "$1.sent" "oldest=$oldest"
}

tell_running() {
    [ -s "$d/p" ] || [ -s "$d/status" ] || return 0
    running=1
    printf "!running\n" >&3
}

# How far the input is.
tell_input() {
    recall up
    if [ "$up" != "$up_told" ]; then
        up_told=$up
        printf "!up %s\n" "$up $ahead $head" >&3
    fi
    # What is found empty keeps its value of before.
    recall in.stored
    recall in.done
    closed=
    [ ! -e "$d/in.closed" ] || closed=closed
    if [ "$stored $handed $closed" != "$input_told" ]; then
        input_told="$stored $handed $closed"
        printf "!in %s\n" "$input_told" >&3
    fi
}

# Fails where the folder has gone meanwhile.
tell_status() {
    for name in out err; do
        { read -r line <"$d/$name.last"; } 2>/dev/null || return
        printf "!last %s %s\n" "$name" "$line" >&3
    done
    { read -r code <"$d/status"; } 2>/dev/null || return
    trap "acknowledge; depart_obeying" QUIT
    tell_last "status $code"
}

# tell_last MESSAGE: nothing follows it but the client's answer, which comes as SIGQUIT.
tell_last() {
    printf "!%s\n" "$1" >&3
    [ "$linger" = 1 ] || return 0
    # Of a command that has ended the agent repairs what was lost on the way for two seconds only.
    # Ten beats are half a minute; a client that has not answered by then asks again. Of the others
    # many may have rung before.
    beats_left=10
    while [ "$beats_left" -gt 0 ] && is_client; do
        hear_ring
        [ "$rung" != beat ] || beats_left=$((beats_left - 1))
    done
}

# The client knows the end: nothing of the run is needed any more. The keeper removes it, which the
# end of a session does not reach.
acknowledge() {
    echo >"$d/known"
    has_keeper || end_all
}
