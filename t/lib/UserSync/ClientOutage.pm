package UserSync::ClientOutage;

# What Supabase's client libraries make of it when this server withholds a
# session because PostgreSQL is away: they are told to try again, they sign
# nobody out, nothing is used up, and they go on when PostgreSQL is back.
#
#   my $outage = UserSync::ClientOutage->new('js',
#       retryable => 'AuthRetryableFetchError');
#   $outage->told_to_try_again;
#   $outage->goes_on('a refresh',
#       begin => sub { $_[0]->begin('auth.getSession') });
#
# Each is a subtest that begins and ends with PostgreSQL running.

use strict;
use warnings;

use JSON::PP ();
use Test::More import => ['!done_testing'];
use Time::HiRes qw(time);

use UserSync::Clients ();
use UserSync::Outage qw(own_postgres);
use UserSync::Proxied qw(proxied proxied_server);
use UserSync::Test qw(double mpm request);
use UserSync::Util qw(slurp wait_until);

my $TRUE = JSON::PP::true();
my $PASSWORD = 'correct horse';
my $people = 0;

# retryable => the class of the error that means "try again"
sub new {
    my ($class, $which, %arg) = @_;
    my $pg = own_postgres();
    # One child: who has noticed an outage has told all. With prefork a client
    # that stays connected would have it for itself.
    my $httpd = proxied_server($pg->dsn('app'), children => 1,
        config => "UserSyncCache none\nUserSyncStoreTimeout 2s\n"
            . (mpm() eq 'prefork' ? "KeepAlive Off\n" : ''),
        vhosts => { report => proxied(
            lines => ['UserSyncEnsureResponse Report']) });
    $httpd->allow_log($_) for qr/\[dbd:error\]/,
        qr/usersync-response: (?:store_unavailable|user_row_refused)/;
    double()->config(autoconfirm => $TRUE);
    return bless { which => $which, pg => $pg, httpd => $httpd->start, %arg },
        $class;
}

# A program with a client of its own
sub client {
    my ($self, %arg) = @_;
    my $client = UserSync::Clients->start($self->{which});
    return $client->create(url => $self->{httpd}->url('', $arg{vhost}),
        auth => $arg{auth});
}

sub person {
    my ($self) = @_;
    return double()->add_user(email => 'o' . ++$people . '@example.com',
        password => $PASSWORD);
}

sub password_of {
    my ($user) = @_;
    return ('auth.signInWithPassword',
        { email => $user->{email}, password => $PASSWORD });
}

sub has_row {
    my ($self, $user) = @_;
    return $self->{pg}->value(app =>
        'SELECT count(*) FROM users WHERE id::text = ?', $user->{id});
}

# A client with a session of this user
sub signed_in {
    my ($self, $user, %arg) = @_;
    my $client = $self->client(%arg);
    my $got = $client->call(password_of($user));
    is $got->{error}, undef, 'signed in' or diag explain $got->{error};
    wait_until { $self->has_row($user) } if $arg{vhost};
    is $self->has_row($user), 1, 'with a row';
    return $client;
}

# How often this server has withheld a session
sub withheld {
    my ($self) = @_;
    my $all = slurp($self->{httpd}->dir . '/outcomes') || '';
    return scalar(() = $all =~ m{^(?:store_unavailable|user_row_refused)\ \S+
        \ -\ 503\ POST\ /auth/v1/token$}gmx);
}

# PostgreSQL is away, and this server knows.
sub goes_away {
    my ($self) = @_;
    $self->{pg}->stop;
    my $user = $self->person;
    wait_until {
        double()->clear_requests;
        my $response = request('POST',
            $self->{httpd}->url('/auth/v1/token?grant_type=password'),
            { email => $user->{email}, password => $PASSWORD },
            apikey => double()->key);
        return $response->{status} == 503 && !@{ double()->requests('token') };
    } 30, 'the outage to be known';
    return;
}

sub comes_back { return $_[0]{pg}->start }

# The table refuses every new row, and then no longer.
sub refuses_rows {
    my ($self) = @_;
    $self->{pg}->sql(app => <<'SQL');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN RAISE EXCEPTION ''no''; END'
SQL
    $self->{pg}->sql(app => 'CREATE TRIGGER refuse BEFORE INSERT ON users '
        . 'FOR EACH ROW EXECUTE FUNCTION refuse()');
    return;
}

sub takes_rows { return $_[0]{pg}->sql(app => 'DROP FUNCTION refuse CASCADE') }

# The error of a call that must be tried again
sub try_again_ok {
    my ($self, $got, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = $got->{error} || {};
    return is(($error->{name} || 'none') . ' ' . ($error->{status} || ''),
        "$self->{retryable} 503", $name) || diag explain $got;
}

# ---- the subtests

sub told_to_try_again {
    my ($self) = @_;
    return subtest 'what the library is told' => sub {
        my $user = $self->person;
        my $client = $self->client;
        $self->goes_away;
        my $accounts = double()->users;
        $self->try_again_ok($client->call('auth.signUp', {
            email => 'never@example.com', password => $PASSWORD }), 'sign-up');
        $self->try_again_ok($client->call(password_of($user)), 'password');
        is scalar(@{ double()->users }), scalar @$accounts, 'no account is new';
        is scalar(@{ double()->requests('token') }), 0, 'nobody was asked';
        my $seen = $client->look;
        is $seen->{session}, undef, 'no session is kept';
        is((grep {/SIGNED_IN/} @{ $seen->{events} }), 0, 'nobody is signed in');
        $self->comes_back;
        my $got;
        wait_until {
            $got = $client->call(password_of($user));
            return !$got->{error};
        } 30;
        is $got->{error}, undef, 'they try again, and are in';
        is $self->has_row($user), 1, 'with a row';
        is_deeply [grep { !/INITIAL/ } @{ $client->look->{events} }],
            ['SIGNED_IN'], 'and the library says so';
    };
}

# A code by mail is good for one time: it waits for its row.
sub nothing_is_used_up {
    my ($self) = @_;
    return subtest 'a code by mail' => sub {
        my $user = $self->person;
        my $client = $self->client;
        is $client->call('auth.signInWithOtp', { email => $user->{email} })
            ->{error}, undef, 'a mail';
        my @verify = ('auth.verifyOtp', { type => 'email',
            email => $user->{email},
            token => double()->otp($user->{email})->{code} });
        $self->goes_away;
        $self->try_again_ok($client->call(@verify), 'the code') for 1, 2;
        is scalar(@{ double()->requests('verify') }), 0, 'is not used';
        $self->comes_back;
        my $got;
        wait_until {
            $got = $client->call(@verify);
            return !$got->{error};
        } 30;
        is $got->{error}, undef, 'it is still good' or diag explain $got;
        is $self->has_row($user), 1, 'and brings a row';
    };
}

# In the middle of an outage the access token has expired: the library has
# nothing left but its refresh token. begin($client) makes it refresh, and
# returns the number of its call if it goes on; after($client) is what it takes
# when the outage is over. refuses => 1: the table refuses the row instead.
sub goes_on {
    my ($self, $name, %arg) = @_;
    my ($begin, $after, $refuses)
        = map { delete $arg{$_} } qw(begin after refuses);
    return subtest $name => sub {
        my $user = $self->person;
        # supabase-py rounds, and has no timer for less
        double()->config(jwt_exp => 2);
        my $client = $self->signed_in($user, %arg);
        # so that the refresh has to make it again
        $self->{pg}->sql(app => 'DELETE FROM users WHERE id::text = ?',
            $user->{id});
        if   ($refuses) { $self->refuses_rows }
        else            { $self->goes_away }
        my $session = $client->look->{session};
        wait_until { time >= $session->{expires_at} } 30, 'the token to expire';
        my $before = $self->withheld;
        my $n = $begin->($client);
        wait_until { $self->withheld >= $before + 2 } 60,
            'the library to try twice';
        my $seen = $client->look;
        is $seen->{session}{user}{id}, $user->{id}, 'the session is kept';
        _nobody_signed_out($seen);
        my $events = @{ $seen->{events} };
        double()->config(jwt_exp => 3600);
        if   ($refuses) { $self->takes_rows }
        else            { $self->comes_back }
        $after->($client) if $after;
        wait_until {
            my @new = @{ $client->look->{events} };
            return grep {/TOKEN_REFRESHED/} splice @new, $events;
        } 60, 'the library to refresh';
        is $self->has_row($user), 1, 'it has refreshed, with a row';
        $seen = $client->look;
        isnt $seen->{session}{access_token}, $session->{access_token},
            'it keeps another session';
        cmp_ok $seen->{session}{expires_at}, '>', time, 'which is good';
        _nobody_signed_out($seen);
        is $client->result($n)->{error}, undef, 'the call has worked' if $n;
    };
}

sub _nobody_signed_out {
    my ($seen) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is((grep {/SIGNED_OUT/} @{ $seen->{events} }), 0,
        'nobody signed out');
}

# What the library does at this call when Supabase itself refuses the refresh:
# the tests above would see it. lives => seconds of the access token, where the
# library does not wait for its end.
sub refusal_signs_out {
    my ($self, $call, %arg) = @_;
    my $lives = delete $arg{lives};
    return subtest 'a refusal by Supabase' => sub {
        my $user = $self->person;
        double()->config(jwt_exp => $lives || 1);
        my $client = $self->signed_in($user, %arg);
        my $session = $client->look->{session};
        double()->config(jwt_exp => 3600);
        double()->change_user($user->{id}, banned => $TRUE);
        wait_until { time >= $session->{expires_at} } 30, 'the token to expire'
            unless $lives;
        my $got = $client->call($call);
        is $client->look->{session}, undef, 'ends the session'
            or diag explain $got;
    };
}

# With Report nobody notices the outage.
sub nobody_notices {
    my ($self) = @_;
    return subtest 'Report' => sub {
        my $user = $self->person;
        my $client = $self->signed_in($user, vhost => 'report');
        $self->goes_away;
        my $before = $self->withheld_by_report;
        my $other = $self->person;
        for my $call (['auth.refreshSession'], ['auth.getUser'],
            [password_of($other)], ['auth.signOut'],
            ['auth.signUp', { email => 'r' . ++$people . '@example.com',
                password => $PASSWORD }]) {
            my $got = $client->call(@$call);
            is $got->{error}, undef, $call->[0]
                or diag explain $got->{error};
        }
        wait_until { $self->withheld_by_report >= $before + 3 } 30;
        cmp_ok $self->withheld_by_report - $before, '>=', 3,
            'what On would have done is in the log';
        $self->comes_back;
    };
}

sub withheld_by_report {
    my ($self) = @_;
    my $all = slurp($self->{httpd}->dir . '/outcomes') || '';
    return scalar(() = $all =~ /^store_unavailable \S+ 1 200 /gm);
}

1;
