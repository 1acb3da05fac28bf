# shellcheck shell=sh
# shellcheck disable=SC2086 # Lists of numbers are split into words on purpose.
#
# Runs a command on a server so that it outlives the session that started it.
#
# usage: sh engine ROLE FOLDER ARGUMENT…
#
#   launch PATIENCE LIMIT INPUT   starts supervise apart from this session and its terminal
#   supervise PATIENCE LIMIT INPUT  runs the command; PATIENCE: how many seconds it is kept for a
#                                 client that is away; LIMIT: how many it may run (0: as long as it
#                                 likes); INPUT: 1 if it reads what enter stores, "detach" if it
#                                 is left running
#   command                       becomes the command
#   attach TURN OUT_SEGMENT OUT_OFFSET ERR_SEGMENT ERR_OFFSET LINGER
#                                 writes to standard output what the command has written from
#                                 there on, and how it ended
#   enter TURN [OUT_SEGMENT OUT_OFFSET ERR_SEGMENT ERR_OFFSET]
#                                 reads the command's input, and orders, from a terminal; with
#                                 positions it attaches there too
#   signal NAME                   sends a signal to the command's process group
#   known                         says that the client knows how the command ended
#   end                           ends the command and removes the folder
#
# No single quote may stand here: the text travels between a pair of them.
#
# --- The folder ---------------------------------------------------------------------------------
#
#   engine       this text
#   command      lines of sh that become the command; script: its file, if it has one
#   umask        the umask of the command
#   out, err     FIFOs: what the command writes
#   NAME.N       segments of what NAME gave, each a mebibyte and up to 64 KiB more
#   NAME.at      how far the pump is, at=SEGMENT end=LENGTH; what is beyond is not written wholly
#   NAME.N.end   the length of a segment that is full
#   NAME.last    "SEGMENT LENGTH": where the stream ended
#   NAME.sent    sent=SEGMENT: where the client is
#   in           FIFO: what the command reads
#   in.N         frames of it that have arrived, from 1 on; in.stored: stored=NUMBER of the last
#   one;
#                in.done: handed=NUMBER of the last one that was handed on; in.end: no more come;
#                in.closed: nobody reads any more
#   bell, feed   FIFOs: a line in them wakes attach and the feeder
#   life         FIFO that attach holds open as long as it lives
#   turn         now=NUMBER of the attach that is the client
#   up           up="TURN STORED EXACT": an enter that is ready
#   p            the command's process, which leads a session and a group of its own
#   supervise    the process of supervise, which leads another with all its helpers
#   status       how the command ended; limit: its time was over; failed: why no more can be known
#   known        the client has said that it knows how the command ended
#   leaving      gone=NUMBER of the attach whose client may not come back
#   output       the file that takes the output of a command that is left running
#
# A small file that is written again and again (NAME.at, NAME.sent, in.stored, in.done, turn, up)
# is a
# line of sh, which recall reads. The builtin read takes a byte at a time, and would find half of
# one
# number and half of the next; a text of sh is read at once, and was written at once. Between the
# two
# calls that empty a file and fill it nothing is found: whoever fills it rings afterwards.
#
# --- Why nothing is lost --------------------------------------------------------------------------
#
# 1. The pump says in NAME.at what it has written, after it has written it, and then rings.
# 2. attach sends only what NAME.at tells, says before each run of bytes where the run begins, and
#    the client checks that against what it has.
# 3. A segment is removed only when HISTORY more have been sent after it. What has been sent and not
#    received is less than that; if ever it is more, the client is told "gone", never less output.
# 4. The pump stops AHEAD segments before attach, and the command blocks, as at any pipe.
# 5. The folder is removed for three reasons only: the client has said that it knows the end
#    ("known"), it has ordered the end, or it has been away for PATIENCE seconds. The end of a
#    session is none: that the service has ended it, that its connection was lost and that the
#    client is done look the same from here, and what was written may have come to nobody.

role=$1
d=$2
shift 2
umask 077

SEGMENT_BYTES=1048576
# Together the ring of one stream: (HISTORY + AHEAD + 2) segments, 16 MiB.
HISTORY=10
AHEAD=3

ring() { echo >&4; }

# recall FILE: runs the line in it, if there is one.
# shellcheck disable=SC1090
recall() { [ ! -e "$d/$1" ] || . "$d/$1"; }

# apart COMMAND…: becomes COMMAND as the leader of a new session and process group, if the system
# has
# a way to do that.
apart() {
    if command -v setsid >/dev/null 2>&1; then
        exec setsid "$@"
    elif command -v perl >/dev/null 2>&1; then
        exec perl -e "use POSIX; POSIX::setsid(); exec @ARGV or exit 127" "$@"
    fi
    exec "$@"
}

# --- the command and its processes
# -----------------------------------------------------------------

launch() {
    # A shell lets what it starts with "&" ignore SIGINT for ever, and the command would inherit
    # that.
    # What stands in a pipeline is spared. The last element ends the shell that would wait for the
    # first, which goes on alone.
    # shellcheck disable=SC2216
    apart sh "$d/engine" supervise "$d" "$@" </dev/null >/dev/null 2>&1 | kill -KILL "$$"
}

supervise() {
    patience=$1
    limit=$2
    input=/dev/null
    echo "$$" >"$d/supervise"
    exec 4<>"$d/bell"
    if [ "$3" = detach ]; then
        run_detached
        return
    fi
    keep &
    pump out &
    pumps=$!
    pump err &
    pumps="$pumps $!"
    if [ "$3" = 1 ]; then
        input=$d/in
        feed &
    fi
    run_command "$d/out" "$d/err"
    # A process that the command has left behind may still write.
    wait $pumps
    [ ! -e "$d/limit" ] || code=limit
    echo "$code" >"$d/status"
    : >"$d/in.closed"
    ring
    # Of nobody the number may be another process's soon. A client has not to wait for that look at
    # all processes, and one that is here says that it knows the end before the second is over:
    # then the folder goes, and this shell with it.
    sleep 1
    { read -r pid <"$d/p"; } 2>/dev/null || return 0
    find_members
    [ -n "$members" ] || rm -f "$d/p"
}

# run_command OUT ERR: sets $code to its status.
run_command() {
    if [ "$limit" != 0 ]; then
        end_at_limit &
        timer=$!
    fi
    (
        read -r mask <"$d/umask"
        umask "$mask"
        exec <"$input" >>"$1" 2>>"$2" 4>&-
        apart sh "$d/engine" command "$d"
    )
    code=$?
    # ksh93 tells a signal as 256 and its number.
    [ "$code" -lt 256 ] || code=$((code - 128))
    # What ends the command goes on: a child that was born meanwhile has not had the signal.
    [ "$limit" = 0 ] || [ -e "$d/limit" ] || kill "$timer"
}

# What is left running: nobody is waited for, and its output stays.
run_detached() {
    trap "" HUP
    output=$(mktemp "${TMPDIR:-/tmp}/ops-output.XXXXXX") || return
    echo "$output" >"$d/output"
    # Both streams append, so that neither writes over the other.
    run_command "$output" "$output"
    # It may have ended before its client knows of it.
    left=$patience
    until [ -e "$d/known" ] || [ "$left" -le 0 ]; do
        sleep 1
        left=$((left - 1))
    done
    rm -rf "$d"
}

become_command() {
    echo "$$" >"$d/p"
    exec 4<>"$d/bell"
    ring
    exec 4>&-
    # For the command file.
    # shellcheck disable=SC2034
    script=$d/script
    # shellcheck disable=SC1091
    . "$d/command"
}

end_at_limit() {
    # Of a command that has not begun yet nobody knows the process.
    until [ -e "$d/p" ]; do pause; done
    sleep "$limit"
    : >"$d/limit"
    end_command
}

# signal_command NAME
signal_command() {
    # Of a command that has not begun yet nobody knows the process.
    { read -r pid <"$d/p"; } 2>/dev/null || return 0
    kill "-$1" "-$pid" 2>/dev/null && return
    find_members
    [ -z "$members" ] || kill "-$1" $members 2>/dev/null
}

# Sets $members to the processes of the session that $pid leads: all that it has started, without
# what has made itself a session of its own, as a daemon does.
find_members() {
    members=
    # One program for all processes: the builtin read would take each of these files byte by byte,
    # which is tens of thousands of system calls. The name before the last bracket may hold
    # anything; STATE PARENT GROUP SESSION follow it. Z has ended already.
    # shellcheck disable=SC2013 # There are no blanks in these names.
    for stat in $(grep -s -l -E "[)] [^Z] [0-9]+ [0-9]+ $pid [^)]*\$" /proc/[0-9]*/stat); do
        process=${stat#/proc/}
        members="$members ${process%/stat}"
    done
    # No /proc, or no way to make a session.
    [ -n "$members" ] || members=$(ps -A -o pid= -o ppid= -o pgid= 2>/dev/null | awk -v top="$pid" "
        { parent[\$1] = \$2; group[\$1] = \$3 }
        END {
            for (p in parent) {
                for (q = p; q in parent && q != top && q > 1; q = parent[q]);
                if (q == top || group[p] == top) print p
            }
        }")
}

# SIGTERM, and a second later SIGKILL.
end_command() {
    { read -r pid <"$d/p"; } 2>/dev/null || return 0
    find_members
    [ -n "$members" ] || return 0
    kill -TERM $members 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        pause
        find_members
        [ -n "$members" ] || return 0
    done
    kill -KILL $members 2>/dev/null
}

# Not every sleep knows parts of a second.
pause() { sleep 0.1 2>/dev/null || sleep 1; }

end_all() {
    pid=
    end_command
    # What a helper still writes must not find the folder, or it would be there again. Where this
    # fails, somebody else ends it too.
    mv "$d" "$d.gone" 2>/dev/null || return 0
    # Of a command that was just about to begin the process may be known only now. Where the folder
    # has gone before it is, the command does not begin.
    d=$d.gone
    [ -n "$pid" ] || end_command
    helpers=
    { read -r helpers <"$d/supervise"; } 2>/dev/null
    rm -rf "$d"
    # This shell may be one of them.
    [ -z "$helpers" ] || kill -KILL "-$helpers" 2>/dev/null
}

# Ends all where no client has been there for $patience seconds.
keep() {
    exec 4>&-
    trap "" HUP INT QUIT TERM
    seen=none
    left=$patience
    while [ -d "$d" ]; do
        # Ends when nobody holds "life" any more; at once where nobody does. To open a FIFO waits
        # for its other side, so a descriptor for both sides opens it first.
        # shellcheck disable=SC2094
        (
            exec 5<>"$d/life" 6<"$d/life" 5>&-
            read -r _ <&6
        )
        [ ! -e "$d/known" ] || break
        now=$seen
        recall turn
        if [ "$now" != "$seen" ]; then
            seen=$now
            left=$patience
        fi
        gone=
        recall leaving
        if [ "$gone" = "$seen" ] && [ "$left" -gt 15 ]; then left=15; fi
        [ "$left" -gt 0 ] || break
        sleep 1
        left=$((left - 1))
    done
    [ ! -d "$d" ] || end_all
}

# --- output
# ----------------------------------------------------------------------------------------

# pump NAME: what the FIFO gives, into segments.
pump() {
    exec <"$d/$1"
    name=$1
    segment=0
    length=0
    sent=0
    while :; do
        while [ $((segment - sent)) -gt "$AHEAD" ]; do
            recall "$name.sent"
            [ $((segment - sent)) -le "$AHEAD" ] || pause
        done
        # One read, however little it gives: what was written is on its way at once.
        if ! told=$(LC_ALL=C dd bs=65536 count=1 2>&1 >>"$d/$name.$segment"); then
            # No room for a word of it either, perhaps.
            rm -f "$d/$name.$sent"
            echo "${told##*: }" >"$d/failed"
            ring
            return
        fi
        count_copied
        [ "$copied" -gt 0 ] || break
        length=$((length + copied))
        echo "at=$segment end=$length" >"$d/$name.at"
        if [ "$length" -ge "$SEGMENT_BYTES" ]; then
            # First, since attach goes on there as soon as it finds the end of this one.
            : >"$d/$name.$((segment + 1))"
            echo "$length" >"$d/$name.$segment.end"
            segment=$((segment + 1))
            length=0
            echo "at=$segment end=0" >"$d/$name.at"
        fi
        ring
    done
    echo "$segment $length" >"$d/$name.last"
    ring
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
    echo "now=$turn" >"$d/turn"
    # Whoever is attached still finds that it is not its turn. In the background: a bell that was
    # rung all the time while nobody was here takes no more before it is read below.
    [ "$turn" = 1 ] || ring &
    beats=
    # The agent passes on 0x03 as SIGINT and 0x1C as SIGQUIT, and reads no more until this shell has
    # ended; the client then attaches anew.
    trap "signal_command INT; echo gone=\$turn >\"\$d/leaving\"; depart" INT
    trap "end_all; depart_obeying" QUIT
    encode=
    is_encoding_chosen=
    beat &
    beats=$!
    open_stream out 7 "$2" "$3"
    out_segment=$2
    out_offset=$3
    open_stream err 8 "$4" "$5"
    err_segment=$4
    err_offset=$5
    running=
    input_told=
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
        if [ -e "$d/output" ] && [ -e "$d/p" ]; then
            read -r pid <"$d/p"
            read -r output <"$d/output"
            trap "acknowledge; depart_obeying" QUIT
            tell_last "detached $pid $output"
            break
        fi
        # Looked at before the streams: what they hold then is all.
        done=
        [ ! -e "$d/status" ] || done=1
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
        read -r _ <&4
    done
    depart
}

# Tells the client that its last word was heard.
depart_obeying() {
    printf "!ended\n" >&3
    depart
}

depart() {
    kill "$beats" 2>/dev/null
    exit 0
}

# The wake-up may have been meant for the attach that took over.
is_client() {
    now=$turn
    recall turn
    [ "$now" = "$turn" ] && return
    ring
    return 1
}

# The first who notices that nobody listens any more: then the agent has let go, and with sudo in
# between its kill has not come here.
#
# It rings too: a signal that comes between the last look at signals and the call of read inside of
# the builtin read does not interrupt that, and its trap waits for the next ring.
beat() {
    exec 9>&- </dev/null 2>/dev/null
    trap "" PIPE
    # A shell that departs just now does not know this process yet.
    while sleep 3 >/dev/null 3>&- 4>&- && kill -0 "$$"; do
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
    # Before the command has written anything there is no segment at all.
    : >>"$d/$1.$3"
    echo "sent=$3" >"$d/$1.sent"
    eval "exec $2<\"\$d/$1.$3\""
    # One read of a file gives as much as is asked for, and moves its position.
    [ "$4" = 0 ] || eval "dd bs=$4 count=1 <&$2 >/dev/null 2>&1"
}

# send_stream NAME DESCRIPTOR: sends what there is from $segment and $offset on, and moves them.
send_stream() {
    while :; do
        full=
        if [ -e "$d/$1.$segment.end" ]; then
            read -r end <"$d/$1.$segment.end" || return 0
            full=1
        else
            at=
            recall "$1.at"
            [ -n "$at" ] || return 0
            # It was filled between the two looks.
            [ "$at" = "$segment" ] || continue
        fi
        if [ "$end" -gt "$offset" ]; then
            choose_encoding $((end - offset))
            printf "!%s %s %s\n" "$1" "$segment" "$offset" >&3
            eval "dd bs=$((end - offset)) count=1 <&$2 2>/dev/null" | $encode >&3 || depart
            offset=$end
        fi
        [ -n "$full" ] || return 0
        printf "!end %s %s %s\n" "$1" "$segment" "$offset" >&3
        [ "$segment" -lt "$HISTORY" ] ||
            rm -f "$d/$1.$((segment - HISTORY))" "$d/$1.$((segment - HISTORY)).end"
        segment=$((segment + 1))
        offset=0
        echo "sent=$segment" >"$d/$1.sent"
        eval "exec $2<\"\$d/$1.$segment\""
    done
}

tell_running() {
    [ -e "$d/p" ] || [ -e "$d/status" ] || return 0
    running=1
    printf "!running\n" >&3
}

# How far the input is.
tell_input() {
    recall up
    if [ "$up" != "$up_told" ]; then
        up_told=$up
        printf "!up %s\n" "$up" >&3
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
        read -r rung <&4
        [ "$rung" != beat ] || beats_left=$((beats_left - 1))
    done
}

# The client knows the end: nothing of the run is needed any more.
acknowledge() { echo >"$d/known"; }

# --- input
# -----------------------------------------------------------------------------------------

enter() {
    stty raw -echo || exit 1
    exec 4<>"$d/bell" 6<>"$d/feed"
    turn=$1
    stored=0
    recall in.stored
    echo "up=\"$turn $stored $(is_exact)\"" >"$d/up"
    ring
    # What comes by a terminal is repaired until it is there: no need to linger.
    [ $# = 1 ] || sh "$d/engine" attach "$d" "$@" 0 </dev/null 4>&- 6>&- &
    while IFS= read -r line; do
        set -- $line
        case "$1" in
        # Orders follow one another at once, and the head of busybox would read into the next one.
        put) dd bs=1 count="$3" >"$d/$2" 2>/dev/null || exit 1 ;;
        run)
            shift
            # It may have been asked for by an enter whose session was lost.
            [ -e "$d/supervise" ] || sh "$d/engine" launch "$d" "$@" 4>&- 6>&-
            ;;
        in)
            take "$2" "in.$((stored + 1))" || exit 1
            stored=$((stored + 1))
            echo "stored=$stored" >"$d/in.stored"
            echo >&6
            ring
            ;;
        end)
            : >"$d/in.end"
            echo >&6
            ;;
        signal) signal_command "$2" ;;
        known)
            acknowledge
            printf "!ended\n"
            exit 0
            ;;
        stop)
            end_all
            printf "!ended\n"
            exit 0
            ;;
        *) exit 1 ;;
        esac
    done 2>/dev/null
}

# Whether head reads no further than it is told, so that more may follow at once.
is_exact() {
    [ "$(printf abcd | {
        head -c 2 >/dev/null
        cat
    })" = cd ] && echo exact
}

# take LENGTH NAME: so much of the terminal into a file. A terminal that is hung up gives less.
take() {
    head -c "$1" >"$d/$2" && [ "$(wc -c <"$d/$2")" -eq "$1" ]
}

# The frames, one after another, to the command.
feed() {
    exec 6<>"$d/feed"
    # Waits for the command.
    exec 5>"$d/in"
    frame=1
    stored=0
    while :; do
        # Looked at first: the last frame is stored before the end is told.
        ended=
        [ ! -e "$d/in.end" ] || ended=1
        recall in.stored
        if [ "$stored" -lt "$frame" ]; then
            [ -z "$ended" ] || break
            read -r _ <&6
            continue
        fi
        cat "$d/in.$frame" >&5 2>/dev/null || {
            : >"$d/in.closed"
            ring
            return
        }
        rm -f "$d/in.$frame"
        echo "handed=$frame" >"$d/in.done"
        ring
        frame=$((frame + 1))
    done
}

case "$role" in
launch | supervise | attach | enter) "$role" "$@" ;;
command) become_command ;;
known) acknowledge ;;
signal) signal_command "$1" ;;
end) end_all ;;
esac
