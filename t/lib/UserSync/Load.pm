package UserSync::Load;

# Clients that log users in, one login after the other, in a separate process
# until the test stops it:
#
#   my $load = UserSync::Load->start(url => $url, people => \@people);
#   ...
#   my $seen = $load->stop;
#
# people are [{email, password}]. With "grow" (seconds) the clients start with
# a few of them and others join all the time, so that there are always rows to
# be created and rows that exist.
#
# Other requests than logins: request => sub { my ($number) = @_; ... } returns
# the arguments of UserSync::HTTP, [method, url, body, headers], and the name
# of the user. "most" limits their number: finish waits for the last one, stop
# does not.
#
# stop returns { count, by => {"200" => n, "503 store_unavailable" => n},
# slowest (seconds), bad => [samples other than 200], ids => [of the 200s] };
# with "keep" also replies => [{kind, who, opened, ended, user_id}].

use strict;
use warnings;

use IO::Poll qw(POLLERR POLLHUP POLLIN POLLOUT);
use Time::HiRes qw(sleep time);

use UserSync::Background ();
use UserSync::HTTP ();
use UserSync::Util qw(patience);

# After this long (seconds) a login without an answer counts as failed.
my $LIMIT = 30;

# clients (24), url, people, grow, request, most, keep; rate: requests per
# second at most, because failures return faster than successes
sub start {
    my ($class, %arg) = @_;
    my %self = (clients => 24, grow => 0, begun => 0, %arg);
    my $job = UserSync::Background->start(sub { _run($_[0], \%self) });
    return bless { job => $job }, $class;
}

sub stop { return $_[0]{job}->result }

# With "most": waits until all of them are answered.
sub finish { return $_[0]{job}->finished }

sub is_done { return $_[0]{job}->is_done }

sub _run {
    my ($job, $self) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $poll = IO::Poll->new;
    my $seen = { count => 0, by => {}, slowest => 0, bad => [], ids => {},
        replies => $self->{keep} ? [] : undef };
    $self->{since} = time;
    my %calls;
    my $stopping;
    while (!$stopping || %calls) {
        $stopping ||= $job->stopping;
        while (!($stopping ||= _is_enough($self))
            && keys %calls < $self->{clients} && _is_due($self)) {
            my $call = _begin($self);
            $calls{ fileno $call->{socket} } = $call;
            $poll->mask($call->{socket} => POLLOUT);
        }
        $poll->poll($self->{rate} ? 0.005 : 0.05);
        for my $socket ($poll->handles(POLLIN | POLLOUT | POLLERR | POLLHUP)) {
            my $fd = fileno $socket;
            my $call = $calls{$fd} or next;
            _advance($poll, $call, $socket);
            _account($seen, delete $calls{$fd}) if $call->{response};
        }
        _give_up($poll, $seen, \%calls);
    }
    $seen->{ids} = [keys %{ $seen->{ids} }];
    return $seen;
}

sub _is_enough {
    my ($self) = @_;
    return $self->{most} ? $self->{begun} >= $self->{most} : 0;
}

sub _is_due {
    my ($self) = @_;
    return 1 unless $self->{rate};
    return $self->{begun} < (time - $self->{since}) * $self->{rate};
}

sub _begin {
    my ($self) = @_;
    my ($request, $who) = $self->{request}
        ? $self->{request}->($self->{begun}) : _login($self);
    $self->{begun}++;
    my $call = UserSync::HTTP::_open($request);
    @$call{qw(opened who)} = (time, $who);
    return $call;
}

sub _login {
    my ($self) = @_;
    my $people = $self->{people};
    my $known = @$people;
    if ($self->{grow}) {
        my $share = (time - $self->{since}) / $self->{grow};
        $known = 1 + int($known * $share) if $share < 1;
        $known = @$people if $known > @$people;
    }
    my $person = $people->[rand $known];
    return ([POST => $self->{url}, { email => $person->{email},
        password => $person->{password} }], $person->{email});
}

sub _advance {
    my ($poll, $call, $socket) = @_;
    # the socket is closed after the last byte: poll must forget it first
    $poll->remove($socket);
    UserSync::HTTP::_step($call, 1);
    $poll->mask($socket => UserSync::HTTP::_interest($call, 1))
        unless $call->{response};
    return;
}

sub _give_up {
    my ($poll, $seen, $calls) = @_;
    my $oldest = time - $LIMIT * patience();
    for my $fd (keys %$calls) {
        next if $calls->{$fd}{opened} > $oldest;
        my $call = delete $calls->{$fd};
        $poll->remove($call->{socket});
        $call->{response} = { status => 0, error => 'no answer' };
        _account($seen, $call);
    }
    return;
}

sub _account {
    my ($seen, $call) = @_;
    my $response = $call->{response};
    my $elapsed  = time - $call->{opened};
    my $key = kind($response);
    $seen->{count}++;
    $seen->{by}{$key}++;
    $seen->{slowest} = $elapsed if $elapsed > $seen->{slowest};
    push @{ $seen->{replies} }, {
        kind => $key, who => $call->{who}, opened => $call->{opened},
        ended => $call->{opened} + $elapsed,
        user_id => $key eq '200' ? $response->{json}{user_id} : undef,
    } if $seen->{replies};
    if ($key eq '200') {
        $seen->{ids}{ $response->{json}{user_id} } = 1;
    }
    else {
        push @{ $seen->{bad} }, sprintf '%s after %.3f s: %s', $key, $elapsed,
            $response->{body} || $response->{error} || ''
            if @{ $seen->{bad} } < 5;
        # no server: it is no use to ask ten thousand times
        sleep 0.005 if !$response->{status};
    }
    return;
}

# "200", "503 store_unavailable", "closed": the kinds that answers are counted
# by. A failed login that contains a session is a kind of its own.
sub kind {
    my ($response) = @_;
    return $response->{error} if $response->{error};
    my $json = ref $response->{json} eq 'HASH' ? $response->{json} : {};
    if ($response->{status} == 200) {
        return $json->{user_id} && $json->{session} ? '200' : '200 without all';
    }
    my @more = defined $json->{code} ? $json->{code} : ();
    push @more, 'without Retry-After'
        if $response->{status} == 503 && !$response->{headers}{'retry-after'};
    push @more, 'WITH A TOKEN'
        if ($response->{body} || '') =~ /access_token|refresh_token/;
    return join ' ', $response->{status}, @more;
}

1;
