package UserSync::Background;

# A part of a test that runs in its own process while the test continues:
#
#   my $job = UserSync::Background->start(sub { ...; return $anything });
#   ...
#   my $anything = $job->result;
#
# The block can check $_[0]->stopping: true once the result is wanted, or when
# the test has ended.

use strict;
use warnings;

use POSIX ();
use Time::HiRes ();

use UserSync::Util qw(alive new_dir read_json write_json);

my $count = 0;
my $dir;
my %lives; # of all jobs of this process

sub start {
    my ($class, $code) = @_;
    $dir ||= new_dir('jobs');
    my $file = sprintf '%s/%d.%d', $dir, $$, ++$count;
    pipe my $end, my $life or die "pipe: $!";
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        close $life;
        # otherwise a job would not notice the end of another before its own
        close $_ for values %lives;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP ALRM __DIE__);
        my $self = bless { end => $end }, $class;
        my $ok = eval { write_json($file, [scalar $code->($self)]); 1 };
        print STDERR "# in the background: $@" unless $ok;
        POSIX::_exit($ok ? 0 : 1);
    }
    close $end;
    $lives{$pid} = $life;
    return bless { pid => $pid, file => $file, owner => $$ }, $class;
}

# For the block: should it end? Waits that long for it.
sub stopping {
    my ($self, $seconds) = @_;
    my $in = '';
    vec($in, fileno $self->{end}, 1) = 1;
    return select($in, undef, undef, $seconds || 0) > 0;
}

sub pid { return $_[0]{pid} }

# Tells the block to end, unless it ends by itself, and waits for that.
sub _reap {
    my ($self, $by_itself) = @_;
    my $pid = delete $self->{pid} or return;
    my $life = delete $lives{$pid};
    close $life if $life && !$by_itself;
    local ($?, $!);
    local $SIG{CHLD} = 'DEFAULT';
    waitpid $pid, 0;
    return;
}

# Has it ended?
sub is_done { return !$_[0]{pid} || -e $_[0]{file} || !alive($_[0]{pid}) }

# Like result, for a block that ends by itself.
sub finished {
    my ($self) = @_;
    $self->_reap(1);
    return $self->result;
}

# Waits for the end of the block and returns its value; dies if it died.
sub result {
    my ($self) = @_;
    $self->_reap;
    my $value = read_json($self->{file})
        or die "a job in the background has failed\n";
    unlink $self->{file};
    return $value->[0];
}

sub DESTROY {
    my ($self) = @_;
    return unless ($self->{owner} || 0) == $$ && $self->{pid};
    # it may be stopped or stuck, and its value is not needed
    kill $_, $self->{pid} for qw(CONT KILL);
    $self->_reap;
    return;
}

1;
