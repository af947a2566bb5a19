package Bench::Hook;

# The module as Supabase's token hook: Bench::HookCalls says what it is asked.

use strict;
use warnings;

use parent -norequire, 'Bench::HookCalls', 'Bench::Httpd';

use Bench::Crowd ();
use Bench::HookCalls ();
use Bench::Httpd ();

sub launch {
    my ($self) = @_;
    $self->Bench::Httpd::launch;
    # what the check is refused with
    $self->{httpd}->log->allow(qr/invalid_signature/);
    $self->{httpd}->log->allow(qr/store_unavailable/) if $self->{may_refuse};
    return;
}

# The calls that it has answered, by its access log: wrk does not count those
# that it waits for at the end of a run.
sub handled {
    my ($self) = @_;
    my ($count, $text) = (0);
    open my $log, '<', $self->{httpd}->access_log or die "access log: $!\n";
    $count += $text =~ tr/\n// while read $log, $text, 1 << 20;
    close $log or die "access log: $!\n";
    return $count;
}

# Those that it has refused, which Supabase and wrk get with status 200.
sub refused {
    my ($self) = @_;
    my $count = 0;
    open my $log, '<', $self->{httpd}->access_log or die "access log: $!\n";
    while (my $line = <$log>) {
        $count++ if $line !~ /outcome=(?:ok|invalid_signature) /;
    }
    close $log or die "access log: $!\n";
    return $count;
}

sub _hook {
    my ($self) = @_;
    return $self->_dbd . join "\n",
        'UserSyncHookSecret file:' . Bench::Crowd::secret($self->{world}),
        '<Location "/hook">', 'SetHandler usersync-hook', '</Location>', '';
}

1;
