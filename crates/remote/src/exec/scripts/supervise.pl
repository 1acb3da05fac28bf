# The last part of the text whose head is in engine.sh: its role supervise, with feed, pump and keep,
# as one process in place of a dozen, for servers that have perl. The files of the folder and what
# is written into them are told there; what happens seldom is left to the roles of engine.sh.
#
# usage: perl -x engine FOLDER PATIENCE LIMIT INPUT
#
# It begins with notes.pl, and without a single quote, too.

# As in output.sh.
sub SEGMENT_BYTES () { 1048576 }
sub RING_SEGMENTS () { 29 }
# As much as a FIFO holds.
sub READ_BYTES () { 65536 }
# Of waitpid. Its number is the same on Linux and on macOS.
sub WNOHANG () { 1 }

my ($patience, $limit, $input) = @ARGV;

# An attach is found by its descriptor 7 (see end_writers of engine.sh), and this is none.
my @reserved;
do { open($reserved[@reserved], "<", "/dev/null") or exit 1 } until fileno($reserved[-1]) >= 7;

# write_once NAME, TEXT
sub write_once {
    my ($name, $text) = @_;
    open(my $file, ">", "$d/$name") or return;
    syswrite($file, "$text\n");
}

# --- the command ----------------------------------------------------------------------------------

# Whoever makes it starts the command; of a file that is there already mkdir makes nothing either.
mkdir("$d/claim") or exit;
write_once("supervise", "$$\n$patience");
# One file by two names, where the disk can do that.
link("$d/supervise", "$d/keeper") or write_once("keeper", "$$\n$patience");
open(my $bell, "+<", "$d/bell") or exit 1;

# start_role ROLE, ARGUMENTS: a role of engine.sh, beside this process, whose number it gives.
sub start_role {
    my ($role, @arguments) = @_;
    my $process = fork;
    return $process if !defined($process) || $process;
    exec("sh", "$d/engine", $role, $d, @arguments) or exit 127;
}

# open_reader NAME: the end of a FIFO that reads, and one that keeps it open for writing. To open a
# FIFO waits for its other side, so a handle for both sides opens it first.
sub open_reader {
    my ($name) = @_;
    open(my $both, "+<", "$d/$name") or return;
    open(my $reader, "<", "$d/$name") or return;
    return ($reader, $both);
}

# start_command: gives its process.
sub start_command {
    my ($out, $err) = @_;
    my $process = fork;
    return $process if !defined($process) || $process;
    umask(oct($1)) if read_file("engine") =~ /^mask=([0-7]+)$/m;
    # A FIFO waits for the feeder here.
    open(STDIN, "<", $input ? "$d/in" : "/dev/null") or exit 1;
    open(STDOUT, ">&", $out) or exit 1;
    open(STDERR, ">&", $err) or exit 1;
    my @command = ("sh", "$d/engine", "command", $d);
    # All others are closed by exec.
    exec("setsid", @command) or require POSIX;
    POSIX::setsid();
    exec(@command) or exit 127;
}

# find_members: the processes of the session that the command leads, without those that have ended;
# undef where this system does not tell.
sub find_members {
    my ($leader) = @_;
    -r "/proc/self/stat" && opendir(my $all, "/proc") or return;
    my @members;
    my %is_of_leader;
    for my $process (grep { /^\d+$/ } readdir($all)) {
        # All processes of a group are of one session, and to ask for the group is cheap.
        my $group = getpgrp($process);
        next if defined($is_of_leader{$group}) && !$is_of_leader{$group};
        open(my $file, "<", "/proc/$process/stat") or next;
        sysread($file, my $text, 4096) or next;
        # The name before the last bracket may hold anything; STATE PARENT GROUP SESSION follow it.
        $text =~ /.*\) (.) \d+ (\d+) (\d+) /s or next;
        $is_of_leader{$2} = $3 == $leader;
        push(@members, $process) if $is_of_leader{$2} && $1 ne "Z";
    }
    return \@members;
}

my %streams;
my %writers;
for my $name ("out", "err") {
    my ($reader, $writer) = open_reader($name);
    defined($reader) or exit 1;
    $writers{$name} = $writer;
    $streams{$name} = {reader => $reader, segment => 0, length => 0};
}
# Who has started this may ignore it, and then no status would be told.
$SIG{CHLD} = "DEFAULT";
start_role("feed") if $input;
my $command = start_command(@writers{"out", "err"});
defined($command) or exit 1;
%writers = ();
my $timer = $limit > 0 ? start_role("end_at_limit", $limit) : 0;
# As keep of engine.sh does.
$SIG{$_} = "IGNORE" for "HUP", "INT", "QUIT", "TERM", "PIPE";
# It interrupts select, so that the end of the command is noticed at once.
$SIG{CHLD} = sub { };
start_role("remove_leftovers") if has_leftovers();

# has_leftovers: whether there is something that remove_leftovers of engine.sh would look at.
sub has_leftovers {
    my %places;
    @places{grep { defined && length } $ENV{TMPDIR}, "/tmp", "/var/tmp", "/dev/shm", $ENV{HOME}} = ();
    for my $place (keys %places) {
        opendir(my $all, $place) or next;
        for my $name (grep { /^ops-exec\./ } readdir($all)) {
            my $changed = (lstat("$place/$name"))[9];
            return 1 if $changed && time - $changed > 600 && "$place/$name" ne $d;
        }
    }
    return 0;
}

# --- its output -----------------------------------------------------------------------------------

# ring_has_room: as in output.sh.
sub ring_has_room {
    my $kept = 0;
    for my $name (keys %streams) {
        $kept += $streams{$name}{segment} - recall("$name.sent", "oldest") + 1;
    }
    return $kept <= RING_SEGMENTS;
}

# pump NAME: one read, however little it gives: what was written is on its way at once. Fails where
# it cannot be stored, with the reason in $!.
sub pump {
    my ($name) = @_;
    my $stream = $streams{$name};
    my $count = sysread($stream->{reader}, my $bytes, READ_BYTES);
    defined($count) or return;
    if ($count == 0) {
        write_once("$name.last", "$stream->{segment} $stream->{length}") or return;
        close(delete $stream->{reader});
        ring($bell);
        return 1;
    }
    my $file = $stream->{file};
    if (!$file) {
        open($file, ">>", "$d/$name.$stream->{segment}") or return;
        $stream->{file} = $file;
        $stream->{note} ||= open_note("$name.at") or return;
    }
    for (my $done = 0; $done < $count;) {
        $done += syswrite($file, $bytes, $count - $done, $done) || return;
    }
    $stream->{length} += $count;
    note_position($stream) or return;
    if ($stream->{length} >= SEGMENT_BYTES) {
        # First, since attach goes on there as soon as it finds the end of this one.
        my $next = $stream->{segment} + 1;
        open($stream->{file}, ">>", "$d/$name.$next") or return;
        write_once("$name.$stream->{segment}.end", $stream->{length}) or return;
        @$stream{"segment", "length"} = ($next, 0);
        note_position($stream) or return;
    }
    ring($bell);
    return 1;
}

# note_position STREAM
sub note_position {
    my ($stream) = @_;
    return write_note($stream->{note}, "at=$stream->{segment} end=$stream->{length}");
}

# fail_stream NAME, WHY: nothing more of it is known.
sub fail_stream {
    my ($name, $why) = @_;
    # No room for a word of it either, perhaps.
    unlink("$d/$name." . recall("$name.sent", "oldest"));
    write_once("failed", $why);
    close(delete $streams{$name}{reader});
    ring($bell);
}

# --- its end, and the client who may be away ------------------------------------------------------

my $code;
my $ended_at;
my $is_ending = 0;
# $life is read while a client holds it; while none does, $next_look is when that is looked at again.
my $life;
my $next_look = time + 1;
my $seen = "none";
my $left = $patience;
my $is_told = 0;
my $is_looked_at = 0;
my $burials = 0;

# reap: sets $code once the command has ended.
sub reap {
    return if defined($code) || waitpid($command, WNOHANG) == 0;
    $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    $ended_at = time;
}

# tell_status: to be called when nothing writes any more, neither the command nor what it has left
# behind.
sub tell_status {
    $is_told = 1;
    # What ends the command goes on: a child that was born meanwhile has not had the signal.
    kill("KILL", $timer) if $timer && !-e "$d/limit";
    write_once("status", -e "$d/limit" ? "limit" : $code);
    write_once("in.closed", "") if $input;
    ring($bell);
    # Whoever attached is there by now.
    $next_look = time if !$life;
}

# look_for_client: nobody holds the life of the run; see keep of engine.sh.
sub look_for_client {
    end_run() if -e "$d/known" || !-d $d;
    my $now = recall("turn", "now");
    if ($now ne $seen) {
        $seen = $now;
        $left = $patience;
        $burials = 0;
    }
    start_role("end_dead_writers") if -s "$d/beats" && $burials++ < 5;
    # The client may be away for long, and the number of nobody may be another process of soon.
    if (!$is_looked_at && -s "$d/status") {
        $is_looked_at = 1;
        my $members = find_members($command);
        unlink("$d/p") if $members && !@$members;
    }
    $left = 15 if $left > 15 && recall("leaving", "gone") eq $seen;
    end_run() if $left <= 0;
    $left--;
    $next_look = time + 1;
}

# end_run: removes the folder. What is out of the ordinary is the work of engine.sh.
sub end_run {
    exec("sh", "$d.gone/engine", "remove_all", $d) if !-d $d;
    my $is_ordinary = -e "$d/known" && -s "$d/status" && !-e "$d/again" && !-s "$d/beats";
    my $members = $is_ordinary ? find_members($command) : undef;
    if (!$members || @$members || !rename($d, "$d.gone")) {
        exec("sh", "$d/engine", "end", $d);
    }
    # Not once: what is written just now keeps a folder.
    for (1 .. 5) {
        opendir(my $all, "$d.gone") or last;
        unlink(map { "$d.gone/$_" } readdir($all));
        rmdir("$d.gone/claim");
        last if rmdir("$d.gone");
    }
    # With all that it has started itself.
    kill("-KILL", $$);
}

my $nap = 0.001;
while (1) {
    reap();
    my @pumping = grep { $streams{$_}{reader} } "out", "err";
    tell_status() if !@pumping && defined($code) && !$is_told;
    my $watched = "";
    my @waits;
    for my $name (@pumping) {
        my $stream = $streams{$name};
        # The first has room in any case: neither stream waits for the other one to begin.
        if ($stream->{length} > 0 || $stream->{segment} == 0 || ring_has_room()) {
            vec($watched, fileno($stream->{reader}), 1) = 1;
        } else {
            push(@waits, 0.1);
        }
    }
    if (!@pumping && !defined($code)) {
        # It ends in this moment, or has closed its output long before. The signal that tells its
        # end may come just before select, and interrupts nothing then.
        push(@waits, $nap);
        $nap *= 2 if $nap < 0.25;
    }
    if (@pumping && defined($code) && !$is_ending) {
        # As end_what_ignored_a_signal of engine.sh.
        $is_ending = time > $ended_at + 1 && -e "$d/signalled";
        start_role("end_command") if $is_ending;
        push(@waits, 1);
    }
    if ($life) {
        vec($watched, fileno($life), 1) = 1;
    } else {
        push(@waits, $next_look > time ? $next_look - time : 0);
    }
    my ($wait) = sort { $a <=> $b } @waits;
    next if select($watched, undef, undef, $wait) < 0;
    for my $name (@pumping) {
        next if !vec($watched, fileno($streams{$name}{reader}), 1);
        pump($name) or fail_stream($name, $!);
    }
    if ($life && vec($watched, fileno($life), 1)) {
        undef($life);
        look_for_client();
    } elsif (!$life && time >= $next_look) {
        ($life) = open_reader("life");
        look_for_client() if !$life;
    }
}
