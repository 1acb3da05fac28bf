# How both programs of perl begin, supervise.pl and input.pl: the files of the folder as engine.sh
# tells of them. Its first argument is the folder.
#
# No module is loaded but what perl has read already: POSIX alone takes longer than the command of
# many a run, and perl-base of a small server has few. No single quote may stand here, nor in what
# follows: the text travels between a pair of them.
use strict;

my $d = shift;

# read_file NAME: nothing where there is none.
sub read_file {
    my ($name) = @_;
    open(my $file, "<", "$d/$name") or return "";
    sysread($file, my $text, 4096);
    return $text;
}

# open_note NAME: a note, to be written by write_note.
sub open_note {
    my ($name) = @_;
    open(my $made, ">>", "$d/$name") or return;
    open(my $file, "+<", "$d/$name") or return;
    return $file;
}

# write_note FILE, WORDS: as note of engine.sh, with the same width.
sub write_note {
    my ($file, $words) = @_;
    my $text = sprintf("%-48s", $words);
    sysseek($file, 0, 0) or return;
    return syswrite($file, qq(noted="$text" copied="$text"\n));
}

# recall NAME, KEY: the number that KEY has in a note, 0 where there is none; see engine.sh.
sub recall {
    my ($name, $key) = @_;
    for (1 .. 10) {
        my ($noted, $copied) = read_file($name) =~ /noted="([^"]*)" copied="([^"]*)"/ or return 0;
        next if $noted ne $copied;
        return $noted =~ /\b$key=(\d+)/ ? $1 : 0;
    }
    return 0;
}

# ring FIFO: one that has been rung and not heard yet will do: whoever hears it looks at all then.
sub ring {
    my ($fifo) = @_;
    my $rung = "";
    vec($rung, fileno($fifo), 1) = 1;
    select($rung, undef, undef, 0) > 0 or syswrite($fifo, "\n");
}
