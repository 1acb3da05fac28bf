# The frames of an input, by one process each way: what enter and feed of input.sh do with a head, a
# cat and an rm for every frame. It begins with notes.pl, and stands in place of a mark of input.sh,
# between double quotes.
#
# usage: perl -e TEXT FOLDER take NUMBER LENGTH MARK
#        perl -e TEXT FOLDER hand NUMBER

my ($role, @order) = @ARGV;

# A FIFO that is opened for both ways waits for nobody, and its other end is never closed.
open my $feed, "+<", "$d/feed" or exit 1;
open my $bell, "+<", "$d/bell" or exit 1;

# A line of the terminal, byte by byte: what follows an order that is not for this program is for
# the shell, which reads it from the same terminal.
sub read_line {
    my $line = "";
    while ($line !~ /\n/) {
        # A terminal that was hung up.
        sysread STDIN, $line, 1, length $line or exit 1;
    }
    return $line;
}

# take_frame NUMBER LENGTH MARK: one frame of the terminal, into a file that has not its name before
# it is whole. A file of that name may be there: an enter that was killed has stored the same frame,
# and the command is about to be given it.
sub take_frame {
    my ($number, $left, $mark) = @_;
    open my $file, ">", "$d/in.new.$$" or exit 1;
    while ($left > 0) {
        my $bytes = "";
        # A terminal gives less than four kilobytes at a time, and each write is a look into the
        # file's map of blocks.
        while ($left > 0 && length $bytes < 65536) {
            my $count = sysread STDIN, $bytes, $left < 65536 ? $left : 65536, length $bytes;
            $count or exit 1;
            $left -= $count;
        }
        syswrite($file, $bytes) == length $bytes or exit 1;
    }
    !$mark || read_line() eq ".\n" or exit 1;
    rename "$d/in.new.$$", "$d/in.$number" or exit 1;
}

# What other enters have left when they were killed.
sub remove_parts {
    opendir my $entries, $d or exit 1;
    unlink "$d/$_" for grep { /^in\.new\./ } readdir $entries;
}

# Frames of the terminal, the first of which the shell has read about, until a line comes that is
# another order: that is for the shell.
sub take_frames {
    my ($number, $length, $mark) = @_;
    my $stored = open_note("in.stored") or exit 1;
    remove_parts();
    while (1) {
        take_frame($number, $length, $mark);
        write_note($stored, "stored=$number") or exit 1;
        ring($feed);
        ring($bell);
        $number++;
        my $line = read_line();
        ($length, $mark) = $line =~ /^in (\d+)( marked)?$/;
        if (!$length) {
            print $line;
            return;
        }
    }
}

# The frames that are stored, to the command, until the end of its input.
sub hand_frames {
    my ($number) = @_;
    my $handed = open_note("in.done") or exit 1;
    $SIG{PIPE} = "IGNORE";
    # Larger than the 64 KiB of a FIFO (F_SETPIPE_SZ): a command that reads much at once gets it.
    fcntl STDOUT, 1031, 1048576 if $^O eq "linux";
    while (1) {
        # Looked at first: the last frame is stored before the end is told.
        my $is_ended = -e "$d/in.end";
        if (recall("in.stored", "stored") < $number) {
            last if $is_ended;
            sysread $feed, my $rung, 4096;
            next;
        }
        hand_frame($number);
        write_note($handed, "handed=$number") or exit 1;
        ring($bell);
        unlink "$d/in.$number";
        $number++;
    }
}

# Nobody reads any more where this fails.
sub hand_frame {
    my ($number) = @_;
    open my $file, "<", "$d/in.$number" or exit 1;
    while (my $count = sysread $file, my $bytes, 131072) {
        for (my $done = 0; $done < $count;) {
            $done += syswrite(STDOUT, $bytes, $count - $done, $done) || exit 1;
        }
    }
}

$role eq "take" ? take_frames(@order) : hand_frames(@order);
