# shellcheck shell=sh
# shellcheck disable=SC2086 # Lists of numbers are split into words on purpose.
# shellcheck disable=SC3067 # test -O is no part of POSIX, and in every shell that may be sh.
#
# Runs a command on a server so that it outlives the session that started it.
#
# usage: sh engine ROLE FOLDER ARGUMENT…
#
#   launch PATIENCE LIMIT INPUT   starts supervise apart from this session and its terminal
#   supervise PATIENCE LIMIT INPUT  runs the command, unless another one does; PATIENCE: how many
#                                 seconds it is kept for a client that is away; LIMIT: how many it
#                                 may run (0: as long as it likes); INPUT: 1 if it reads what enter
#                                 stores, "detach" if it is left running
#   command                       becomes the command
#   attach TURN OUT_SEGMENT OUT_OFFSET ERR_SEGMENT ERR_OFFSET LINGER
#                                 writes to standard output what the command has written from
#                                 there on, and how it ended
#   enter TURN [OUT_SEGMENT OUT_OFFSET ERR_SEGMENT ERR_OFFSET]
#                                 reads the command's input, and orders, from a terminal; with
#                                 positions it attaches there too
#   signal NAME                   sends a signal to the command's process group
#   known                         says that the client knows how the command ended
#   keep PATIENCE                 ends the run where no client comes back, and removes the folder
#                                 when its client knows the end
#   end                           ends the command and removes the folder
#   end_at_limit LIMIT, end_command, end_dead_writers, remove_leftovers, remove_all, feed
#                                 what supervise.pl leaves to the functions of these names
#
# The text is that of three files, one behind the other: engine.sh, output.sh and input.sh. Two
# programs of perl go with it, each with notes.pl in front: supervise.pl behind the whole, where no
# shell reads on, and input.pl within input.sh. No single quote may stand in any of them: the text
# travels between a pair of them.
#
# --- The folder ---------------------------------------------------------------------------------
#
#   engine       this text
#   claim        whoever makes it starts the command, so that this happens once
#   again        a second session was sent to start the command: see end_all
#   command      lines of sh that become the command; script: its file, if it has one
#   out, err     FIFOs: what the command writes
#   NAME.N       segments of what NAME gave, each a mebibyte and up to 64 KiB more
#   NAME.at      how far the pump is, at=SEGMENT end=LENGTH; what is beyond is not written wholly
#   NAME.N.end   the length of a segment that is full
#   NAME.last    "SEGMENT LENGTH": where the stream ended
#   NAME.sent    oldest=SEGMENT: the first that is still there, if any has gone
#   in           FIFO: what the command reads
#   in.N         frames of it that have arrived, from 1 on
#   in.stored    stored=NUMBER of the last one that has arrived
#   in.done      handed=NUMBER of the last one that was handed on
#   in.end       no more come; in.closed: nobody reads any more
#   bell, feed   FIFOs: a line in them wakes attach and the feeder
#   life         FIFO that attach holds open as long as it lives
#   turn         now=NUMBER of the attach that is the client
#   up           up=TURN ahead=STORED head=EXACT: an enter that is ready
#   p            the command's process, which leads a session and a group of its own
#   supervise    the process of supervise, which leads another with all its helpers
#   keeper       the process of keep, and its PATIENCE, for one in its place
#   attached     the process of attach
#   beats        the one that tells its client that it lives; empty once attach has ended as it should
#   status       how the command ended; limit: its time was over; failed: why no more can be known
#   signalled    it was sent a signal that asks for its end
#   known        the client has said that it knows how the command ended
#   leaving      gone=NUMBER of the attach whose client may not come back
#   output       the file that takes the output of a command that is left running
#
# What is written again and again (NAME.at, NAME.sent, in.stored, in.done, turn, up, leaving) is a
# note: a line of sh, which recall reads. The builtin read takes a byte at a time, and would find
# half of one number and half of the next; a text of sh is read at once, and was written at once.
# What is written once (p, status) is there as soon as it is not empty.
#
# The first line, "mask=UMASK", is the umask of the command. The fewer files there are the better:
# an ext4 on which many were removed within the last minute looks long for the place of a new one.
#
# --- Why nothing is lost --------------------------------------------------------------------------
#
# 1. The pump says in NAME.at what it has written, after it has written it, and then rings.
# 2. attach sends only what NAME.at tells, says before each run of bytes where the run begins, and
#    the client checks that against what it has.
# 3. A segment is removed only when HISTORY more have been sent after it, and then only where the
#    ring has no room for it. What has been sent and not received is less than that; if ever it is
#    more, the client is told "gone", never less output.
# 4. A pump begins a segment only where the ring has room for it. Where it has none, the command
#    blocks, as at any pipe.
# 5. A folder has one claim, and a run has one folder: its name is the client's choice, and every
#    session that is sent to start the command looks for that folder first.
# 6. The folder is removed for three reasons only: the client has said that it knows the end
#    ("known"), it has ordered the end, or it has been away for PATIENCE seconds. The end of a
#    session is none: that the service has ended it, that its connection was lost and that the
#    client is done look the same from here, and what was written may have come to nobody.

# shellcheck disable=SC2034 # Read at the end of input.sh.
role=$1
d=$2
shift 2
umask 077

ring() { echo >&4; }

become_command() {
    # Fails where the run has been ended meanwhile.
    echo "$$" >"$d/p" || exit 1
    exec 4<>"$d/bell"
    ring
    exec 4>&-
    # For the command file.
    # shellcheck disable=SC2034
    script=$d/script
    # shellcheck disable=SC1091
    . "$d/command"
}

# Here, so that a shell that reads its text as it goes along need not read all of it.
if [ "$role" = command ]; then
    become_command
    exit
fi

# note NAME WORDS: WORDS, assignments, take the place of what the note said before. They are written
# over that, with blanks behind them: to empty a file and to fill it is a millisecond of a disk with
# ext4, which then writes it out at once ("auto_da_alloc" in ext4(5)).
note() {
    words="$2                                                                "
    words=${words%"${words#????????????????????????????????????????????????}"}
    # By one call, so that nobody who is killed leaves half of it.
    echo "noted=\"$words\" copied=\"$words\"" 1<>"$d/$1"
}

# recall NAME: does what a note says, if there is one. Of a note that is being written the first
# part may be new and the rest old: then the two halves differ.
# shellcheck disable=SC1090
recall() {
    [ -e "$d/$1" ] || return 0
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        noted=
        copied=
        . "$d/$1"
        [ "$noted" != "$copied" ] || break
    done
    eval "$noted"
}

# apart COMMAND…: becomes COMMAND as the leader of a new session and process group, if the system
# has a way to do that.
apart() {
    if command -v setsid >/dev/null 2>&1; then
        exec setsid "$@"
    elif command -v perl >/dev/null 2>&1; then
        exec perl -e "use POSIX; POSIX::setsid(); exec @ARGV or exit 127" "$@"
    fi
    exec "$@"
}

# Whether apart makes sessions.
makes_sessions() { command -v setsid || command -v perl; } >/dev/null 2>&1

# --- the command and its processes ---------------------------------------------------------------

launch() {
    # A shell lets what it starts with "&" ignore SIGINT for ever, and the command would inherit
    # that. What stands in a pipeline is spared. The last element ends the shell that would wait for
    # the first, which goes on alone.
    # shellcheck disable=SC2216
    apart sh "$d/engine" supervise "$d" "$@" </dev/null >/dev/null 2>&1 | kill -KILL "$$"
}

supervise() {
    # Nothing is kept for the client of what is left running.
    [ "$3" = detach ] || ! perl -e 1 || exec perl -x "$d/engine" "$d" "$@"
    # Here, where the end of the session that has started this does not reach: whoever makes a claim
    # also starts the command.
    # Does not write over a file: it makes one in the same call that finds none.
    set -C
    echo "$$" >"$d/claim" || return 0
    set +C
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
    printf "%s\n%s\n" "$!" "$patience" >"$d/keeper"
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
    end_what_ignored_a_signal &
    watcher=$!
    wait $pumps
    kill -KILL "$watcher"
    stop_timer
    [ ! -e "$d/limit" ] || code=limit
    echo "$code" >"$d/status"
    [ "$input" = /dev/null ] || : >"$d/in.closed"
    ring
    # Somebody has killed it, and where the client is away nobody else would remove the folder.
    has_keeper || { keep & }
}

# run_command OUT ERR: sets $code to its status.
run_command() {
    if [ "$limit" != 0 ]; then
        end_at_limit "$limit" &
        timer=$!
    fi
    # ksh93 ends itself by the interrupt of which a subshell has died, unless it has a trap.
    # Commands do not inherit it.
    trap : INT
    (
        # shellcheck disable=SC2154 # The first line of this text.
        umask "$mask"
        exec <"$input" >>"$1" 2>>"$2" 4>&-
        apart sh "$d/engine" command "$d"
    )
    code=$?
    # ksh93 tells a signal as 256 and its number.
    [ "$code" -lt 256 ] || code=$((code - 128))
}

# What ends the command goes on: a child that was born meanwhile has not had the signal.
stop_timer() { [ "$limit" = 0 ] || [ -e "$d/limit" ] || kill "$timer"; }

# The command has ended, and what it has started still holds its output. Where its client has asked
# for the end, nobody waits for a process that ignores SIGINT, as all do that a shell without job
# control has started with "&".
end_what_ignored_a_signal() {
    while sleep 1; do
        if [ -e "$d/signalled" ]; then
            end_command
            return
        fi
    done
}

# What is left running: nobody is waited for, and its output stays.
run_detached() {
    trap "" HUP
    output=$(mktemp "${TMPDIR:-/tmp}/ops-output.XXXXXX") || return
    echo "$output" >"$d/output.new" && mv "$d/output.new" "$d/output"
    # Both streams append, so that neither writes over the other.
    run_command "$output" "$output"
    stop_timer
    # It may have ended before its client knows of it.
    left=$patience
    until [ -e "$d/known" ] || [ "$left" -le 0 ]; do
        sleep 1
        left=$((left - 1))
    done
    rm -rf "$d"
}

# end_at_limit LIMIT
end_at_limit() {
    # Of a command that has not begun yet nobody knows the process.
    until [ -s "$d/p" ]; do pause; done
    sleep "$1"
    : >"$d/limit"
    end_command
}

# signal_command NAME
signal_command() {
    # Of a command that has not begun yet nobody knows the process.
    { read -r pid <"$d/p"; } 2>/dev/null || return 0
    case "$1" in HUP | INT | QUIT | TERM) { : >"$d/signalled"; } 2>/dev/null ;; esac
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
    [ -z "$members" ] || return 0
    # There are none, unless this system has no /proc or no way to make a session.
    [ ! -r /proc/self/stat ] || ! makes_sessions || return 0
    members=$(ps -A -o pid= -o ppid= -o pgid= 2>/dev/null | awk -v top="$pid" "
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
    # Between the look and the kill another one may be born. Not for ever, since there are processes
    # that nothing ends, as one that waits for a disk.
    for _ in 1 2 3 4 5; do
        kill -KILL $members 2>/dev/null
        pause
        find_members
        [ -n "$members" ] || return 0
    done
}

# Not every sleep knows parts of a second.
pause() { sleep 0.1 2>/dev/null || sleep 1; }

end_all() {
    pid=
    end_command
    # What a helper still writes must not find the folder, or it would be there again. Where this
    # fails, somebody else ends it too.
    mv "$d" "$d.gone" 2>/dev/null || return 0
    remove_all
}

# remove_all: of a folder that was moved away. The keeper does it once more where whoever began it
# was killed.
remove_all() {
    d=$d.gone
    # Of a command that was just about to begin the process may be known only now. Where the folder
    # has gone before it is, the command does not begin.
    [ -n "$pid" ] || end_command
    attached=
    { read -r attached <"$d/attached"; } 2>/dev/null
    [ "$attached" = "$$" ] || end_writers
    helpers=
    { read -r helpers <"$d/supervise"; } 2>/dev/null
    if [ -e "$d/again" ]; then
        # Of several sessions that were sent to start the command one may be late. It must not take
        # a run that has ended for one that never was: for a minute it finds this folder, empty.
        # Without a folder it removes nothing, rather than everything.
        (apart sh -c "rm -rf \"\${1:?}\"/*; sleep 60; rmdir \"\$1\"" sh "$d") </dev/null >/dev/null 2>&1 &
        # Before it stands apart it would be killed with the helpers below.
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            [ -e "$d/engine" ] || break
            pause
        done
    else
        # Not once: what is written just now keeps a folder, and of two who remove one each may stop
        # at a file that the other one has removed.
        for _ in 1 2 3 4 5; do
            rm -rf "$d" 2>/dev/null
            [ -e "$d" ] || break
        done
    fi
    # This shell may be one of them.
    [ -z "$helpers" ] || kill -KILL "-$helpers" 2>/dev/null
}

# --- what keeps the run, and what is left of others -----------------------------------------------

# Ends all where no client has been there for $patience seconds.
keep() {
    exec 4>&-
    trap "" HUP INT QUIT TERM
    remove_leftovers
    seen=none
    is_looked_at=
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
        end_dead_writers
        now=$seen
        recall turn
        if [ "$now" != "$seen" ]; then
            seen=$now
            left=$patience
        fi
        # The client may be away for long, and the number of nobody may be another process's soon.
        # One that is here says at once that it knows the end: then the folder goes anyway.
        if [ -z "$is_looked_at" ] && [ -s "$d/status" ]; then
            is_looked_at=1
            forget_ended_command
        fi
        gone=
        recall leaving
        if [ "$gone" = "$seen" ] && [ "$left" -gt 15 ]; then left=15; fi
        [ "$left" -gt 0 ] || break
        sleep 1
        left=$((left - 1))
    done
    if [ -d "$d" ]; then
        end_all
    elif [ -d "$d.gone" ]; then
        # Whoever was about to remove it may have been killed.
        pid=
        remove_all
    fi
}

# The number of a command of which nothing is left names nobody any more.
forget_ended_command() {
    { read -r pid <"$d/p"; } 2>/dev/null || return 0
    find_members
    [ -n "$members" ] || rm -f "$d/p"
}

end_dead_writers() { is_attached || end_writers dead; }

# end_writers [dead]: ends what an attach that was killed has left; with the word, only where none
# lives. Where the agent ends a session it kills its shell alone, reads no more, and waits until
# nobody holds the pipe that it has read from: what that shell had started would wait in a write for
# ever, and the agent for it.
end_writers() {
    [ -s "$d/beats" ] || return 0
    process=
    read -r process <"$d/attached"
    # Its agent has waited for it: nobody holds its output.
    kill -0 "$process" || return 0
    # Since the keeper found none alive another attach may have begun.
    [ "${1:-}" != dead ] || ! is_attached || return 0
    ended=$process
    writers=
    # They have its file of output as descriptor 7 or its variable: some shells close the first for
    # what they start, and busybox runs programs of its own without an environment of their own.
    # shellcheck disable=SC2013,SC2010 # There are no blanks in these names.
    for word in $(
        grep -s -l -F "OPS_ATTACHED=${d%.gone}" /proc/[0-9]*/environ
        ls -l /proc/[0-9]*/fd/7 | grep -F -e " -> ${d%.gone}"
    ); do
        case "$word" in
        /proc/*/environ | /proc/*/fd/7)
            process=${word#/proc/}
            writers="$writers ${process%%/*}"
            ;;
        esac
    done
    # What another attach has begun since then looks the same. It says who it is before it begins
    # anything, and after it has ended itself what was left.
    if [ "${1:-}" = dead ]; then
        process=
        read -r process <"$d/attached"
        [ "$process" = "$ended" ] || return 0
    fi
    process=
    read -r process <"$d/beats"
    ! is_of_run "$process" || writers="$writers $process"
    printf "" >"$d/beats"
    [ -z "$writers" ] || kill -KILL $writers
} 2>/dev/null

# Whether an attach lives.
is_attached() { read -r process <"$d/attached" && is_of_run "$process"; } 2>/dev/null

# is_of_run PROCESS: whether it lives and is a shell of this run: its number may be that of another
# process by now. Of one that was killed and that nobody has waited for there are no words.
is_of_run() {
    kill -0 "$1" || return
    [ -r "/proc/$1/cmdline" ] || return 0
    folder=${d%.gone}
    words=
    # There is no line feed behind them, so that this fails having read them.
    read -r words <"/proc/$1/cmdline"
    case "$words" in *"${folder##*/}"*) return 0 ;; esac
    return 1
} 2>/dev/null

# Whether there is one, or none is needed, as of a command that is left running.
has_keeper() {
    [ -e "$d/keeper" ] || return 0
    # Found empty, its keeper was killed while it wrote that.
    process=
    { read -r process <"$d/keeper"; } 2>/dev/null
    is_of_run "$process" || [ ! -d "$d" ]
}

# Removes runs that were broken off here: the server was restarted, or their keeper killed. Of a
# young one without processes somebody may be about to start them.
remove_leftovers() {
    others=
    for old in "${TMPDIR:-/tmp}"/ops-exec.* /tmp/ops-exec.* /var/tmp/ops-exec.* \
        /dev/shm/ops-exec.* "$HOME"/ops-exec.*; do
        [ "$old" = "$d" ] || [ ! -d "$old" ] || {
            others=1
            break
        }
    done
    # Without a program where this run is alone, and with one for all where there are many: where
    # each of several hundred runs looks at all the others, only what is old may cost a process.
    [ -n "$others" ] || return 0
    find "${TMPDIR:-/tmp}"/ops-exec.* /tmp/ops-exec.* /var/tmp/ops-exec.* \
        /dev/shm/ops-exec.* "$HOME"/ops-exec.* -prune -mmin +10 |
        while IFS= read -r old; do
            case "${old##*/}" in ops-exec.*) ;; *) continue ;; esac
            # What is somebody else's, or lies behind a link, is not looked into.
            if [ "$old" = "$d" ] || [ -h "$old" ] || [ ! -O "$old" ]; then continue; fi
            is_kept "$old" || rm -rf "$old"
        done
} 2>/dev/null

# is_kept FOLDER: whether a process of the run in it lives that will remove it.
is_kept() (
    d=$1
    for name in keeper supervise; do
        read -r process <"$d/$name" && is_of_run "$process" && return
    done
    return 1
)
