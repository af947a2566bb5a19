package UserSync::ClientScenes;

# What people do with Supabase's client libraries, the same for each of them and
# for each setting of UserSyncEnsureResponse. With On the user's row is removed
# before each call; when it has resolved, the row must be there again, and the
# next call waits for that.
#
#   my $said = every_way('js', $httpd->url, 'On');
#
# Returns what the library has told, call by call, without what differs each
# time: it must be the same for On, Report and Off. The server has no cache of
# users, or it would not look at the table.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use Test::More import => ['!done_testing'];

use UserSync::Clients ();
use UserSync::Outage ();
use UserSync::Test qw(double get postgres post row_of show);
use UserSync::Util qw(wait_until);

our @EXPORT = qw(every_way waits_for_the_row);

my ($TRUE, $FALSE) = (JSON::PP::true(), JSON::PP::false());
my $PASSWORD = 'correct horse';
my $people = 0;

my @WAYS = (
    ['sign-up'             => \&_sign_up],
    ['sign-up with a mail' => \&_pending],
    ['password'            => \&_password],
    ['a code by mail'      => \&_otp],
    ['PKCE'                => \&_pkce],
    ['refresh'             => \&_refresh],
    ['anonymous'           => \&_anonymous],
    ['two factors'         => \&_mfa],
    ['changes of a user'   => \&_update],
);

sub every_way {
    my ($which, $url, $mode) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $scene = bless { which => $which, url => $url, mode => $mode,
        said => [], client => UserSync::Clients->start($which) }, __PACKAGE__;
    for (@WAYS) {
        my ($name, $code) = @$_;
        double()->reset;
        double()->config(autoconfirm => $TRUE, anonymous => $TRUE,
            external_url => "$url/auth/v1",
            providers => { github => { email => 'gus@example.com' } });
        subtest "$mode: $name" => sub { $code->($scene) };
    }
    return $scene->{said};
}

# Somebody else keeps rows from being inserted: with On the promise resolves
# when the row can be made and not before; with Report it does not wait. Reading
# goes on: a child that has not seen the table looks at it before it asks
# Supabase.
sub waits_for_the_row {
    my ($which, $url, $mode) = @_;
    return subtest "$mode: the table is locked" => sub {
        double()->reset;
        my $client = UserSync::Clients->start($which)->create(url => $url);
        my $user = _person();
        my $lock = postgres()->connect('app');
        $lock->begin_work;
        $lock->do('LOCK TABLE users IN SHARE MODE');
        my $n = $client->begin('auth.signInWithPassword',
            { email => $user->{email}, password => $PASSWORD });
        wait_until { UserSync::Outage::waiting_for_locks(postgres()) } 30,
            'the module to wait';
        is scalar(my @tokens = double()->issued), 1, 'Supabase has answered';
        # all that takes longer than to read an answer that is there
        is(UserSync::Clients->start($which)->create(url => $url)->call(
            'auth.resetPasswordForEmail', $user->{email})->{error}, undef,
            'another client starts, and is served');
        if ($mode eq 'Report') {
            is $client->result($n)->{error}, undef, 'and so has the library';
        }
        else { ok !$client->finished($n), 'and the library waits' }
        $lock->rollback;
        $lock->disconnect;
        is $client->result($n)->{error}, undef, 'until there is a row'
            if $mode eq 'On';
        wait_until { row_of($user->{id}) } if $mode eq 'Report';
        my $row = row_of($user->{id});
        is $row && $row->{email}, $user->{email}, 'the row is there';
    };
}

# ---- a step

sub _client {
    my ($self, %auth) = @_;
    return $self->{client}->create(url => $self->{url}, auth => \%auth);
}

# With Report the row comes after the answer: it would be removed while it is
# made.
sub _forget {
    my ($self, $id) = @_;
    return if $self->{mode} ne 'On';
    postgres()->sql(app => 'DELETE FROM users WHERE id::text = ?', $id);
    return;
}

# The row is there; with Report it may come a moment later, and nobody makes it
# without the filter.
sub _row_ok {
    my ($self, $id, $email, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $mode = $self->{mode};
    return ok(!row_of($id), "$name: nobody makes the row") if $mode eq 'Off';
    my $found = sub {
        my $row = row_of($id);
        return $row ? $row->{email} || '' : 'no row';
    };
    wait_until { $found->() eq $email } 10 if $mode eq 'Report';
    return is($found->(), $email, "$name: the row is there");
}

# A call that must succeed. user => of whom it is about: their row goes before
# it; email => as it must be in their row afterwards.
sub _step {
    my ($self, $name, $call, %arg) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $self->_forget($arg{user}) if $arg{user};
    my $got = $self->{client}->call(@$call);
    push @{ $self->{said} }, [$name, _outline($got)];
    is $got->{error}, undef, $name or diag explain $got->{error};
    if (exists $arg{email}) {
        my $id = $arg{user} || $got->{user}{id};
        $self->_row_ok($id, $arg{email}, $name) if ok $id, "$name: a user";
    }
    return $got;
}

# What it has told, without ids, times and tokens
sub _outline {
    my ($got) = @_;
    return { error => $got->{error}, data => _shape($got->{data}) };
}

sub _shape {
    my ($value) = @_;
    return { map { $_ => _shape($value->{$_}) } keys %$value }
        if ref $value eq 'HASH';
    return [map { _shape($_) } @$value] if ref $value eq 'ARRAY';
    return defined $value ? ref $value ? "$value" : 'text' : undef;
}

# The events that the library has told so far, and whether it keeps a session
sub _look {
    my ($self, $name, $keeps) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $seen = $self->{client}->look;
    push @{ $self->{said} }, [$name, $seen->{events}];
    is !!$seen->{session}, !!$keeps, $name;
    return $seen;
}

sub _person {
    my (%more) = @_;
    return double()->add_user(email => 'p' . ++$people . '@example.com',
        password => $PASSWORD, %more);
}

# A session of somebody who has signed in past this server
sub signed_in_elsewhere {
    my ($user) = @_;
    my $response = post(double()->url . '/auth/v1/token?grant_type=password',
        { email => $user->{email}, password => $PASSWORD },
        apikey => double()->key);
    die show($response) unless $response->{json}{access_token};
    return $response->{json};
}

# The library goes on with that session.
sub _continue {
    my ($self, $session) = @_;
    my @token = @$session{qw(access_token refresh_token)};
    return ['auth.setSession', $self->{which} eq 'py' ? @token
        : { access_token => $token[0], refresh_token => $token[1] }];
}

sub _exchange {
    my ($self, $code) = @_;
    return ['auth.exchangeCodeForSession',
        $self->{which} eq 'py' ? { auth_code => $code } : $code];
}

# ---- the browser's part

# Where a browser ends that goes there: back at the site.
sub _browse {
    my ($url) = @_;
    for (1 .. 5) {
        return $url if $url =~ m{^http://127[.]0[.]0[.]1:3000\b};
        my $response = get($url);
        $url = $response->{headers}{location} or die show($response);
    }
    die "it does not end: $url";
}

sub _click {
    my ($self, $mail, $type) = @_;
    return _browse("$self->{url}/auth/v1/verify?type=$type"
        . "&token=$mail->{hash}");
}

sub _code_in { return ($_[0] =~ /[?&]code=([0-9a-f-]+)/)[0] }

# ---- the ways

sub _sign_up {
    my ($self) = @_;
    $self->_client;
    my $email = 'new' . ++$people . '@example.com';
    my $got = $self->_step('sign-up', ['auth.signUp', { email => $email,
        password => $PASSWORD, options => { data => { lang => 'de' } } }],
        email => $email);
    ok $got->{data}{session}{access_token}, 'with a session';
    is $got->{user}{user_metadata}{lang}, 'de', 'and their data';
    $self->_look('which it keeps', 1);
    $got = $self->{client}->call('auth.signUp',
        { email => $email, password => $PASSWORD });
    is $got->{error}{code}, 'user_already_exists', 'once';
    return;
}

sub _pending {
    my ($self) = @_;
    double()->config(autoconfirm => $FALSE);
    $self->_client;
    my %new = (email => 'new' . ++$people . '@example.com',
        password => $PASSWORD);
    my $got = $self->_step('sign-up', ['auth.signUp', \%new],
        email => $new{email});
    my $id = $got->{user}{id};
    is $got->{data}{session}, undef, 'without a session';
    $got = $self->{client}->call('auth.signInWithPassword', \%new);
    is $got->{error}{code}, 'email_not_confirmed', 'not yet';
    $self->_step('once more', ['auth.resend',
        { type => 'signup', email => $new{email} }]);
    $self->_forget($id);
    my $at = $self->_click(double()->otp($new{email}), 'signup');
    my %session = map { split /=/, $_, 2 } split /&/, ($at =~ /#(.*)/)[0];
    ok $session{access_token}, 'the link has a session' or diag $at;
    $self->_row_ok($id, $new{email}, 'the link');
    $self->_step('the session', $self->_continue(\%session), user => $id,
        email => $new{email});

    my %other = (%new, email => 'new' . ++$people . '@example.com');
    $got = $self->_step('another sign-up', ['auth.signUp', \%other],
        email => $other{email});
    $self->_step('its code', ['auth.verifyOtp', { type => 'email',
        email => $other{email},
        token => double()->otp($other{email})->{code} }],
        user => $got->{user}{id}, email => $other{email});
    return;
}

sub _password {
    my ($self) = @_;
    $self->_client;
    my $user = _person();
    my %in = (email => $user->{email}, password => $PASSWORD);
    my $got = $self->{client}->call('auth.signInWithPassword',
        { %in, password => 'wrong' });
    is "$got->{error}{status} $got->{error}{code}", '400 invalid_credentials',
        'a wrong password';
    $self->_step('signed in', ['auth.signInWithPassword', \%in],
        user => $user->{id}, email => $user->{email});
    $self->_look('signed in', 1);
    $self->_step('the user', ['auth.getUser'], user => $user->{id},
        email => $user->{email});
    $self->_step('signed out', ['auth.signOut']);
    my $seen = $self->_look('nothing is kept', 0);
    is $seen->{events}[-1], 'SIGNED_OUT', 'an event';
    return;
}

sub _otp {
    my ($self) = @_;
    $self->_client;
    my $email = 'new' . ++$people . '@example.com';
    $self->_step('a mail', ['auth.signInWithOtp', { email => $email }]);
    my ($user) = grep { $_->{email} eq $email } double()->users;
    my %code = (type => 'email', email => $email,
        token => double()->otp($email)->{code});
    $self->_step('the code', ['auth.verifyOtp', \%code], user => $user->{id},
        email => $email);
    my $got = $self->{client}->call('auth.verifyOtp', \%code);
    is $got->{error}{code}, 'otp_expired', 'once';
    return;
}

sub _pkce {
    my ($self) = @_;
    $self->_client(flowType => 'pkce');
    my $got = $self->_step('a provider', ['auth.signInWithOAuth',
        { provider => 'github', options => { skipBrowserRedirect => $TRUE } }]);
    my $at = _browse($got->{data}{url});
    my $code = _code_in($at);
    ok $code, 'the browser brings a code' or diag $at;
    my ($user) = double()->users;
    $self->_step('the code', $self->_exchange($code), user => $user->{id},
        email => $user->{email});

    my $forgetful = _person();
    $self->_step('a forgotten password', ['auth.resetPasswordForEmail',
        $forgetful->{email}]);
    $at = $self->_click(double()->otp($forgetful->{email}), 'recovery');
    $code = _code_in($at);
    ok $code, 'the link brings a code' or diag $at;
    $self->_step('its code', $self->_exchange($code),
        user => $forgetful->{id}, email => $forgetful->{email});
    $self->_step('another password', ['auth.updateUser',
        { password => 'battery staple' }], user => $forgetful->{id},
        email => $forgetful->{email});
    return;
}

sub _refresh {
    my ($self) = @_;
    $self->_client;
    my $user = _person();
    my @row = (user => $user->{id}, email => $user->{email});
    $self->_step('a session from elsewhere',
        $self->_continue(signed_in_elsewhere($user)), @row);
    my $before = $self->_look('it is kept', 1);
    $self->_step('refreshed', ['auth.refreshSession'], @row);
    my $after = $self->_look('it is kept', 1);
    isnt $after->{session}{refresh_token}, $before->{session}{refresh_token},
        'another one';
    is $after->{events}[-1], 'TOKEN_REFRESHED', 'an event';
    $self->_step('refreshed again', ['auth.refreshSession'], @row);
    return;
}

sub _anonymous {
    my ($self) = @_;
    $self->_client;
    my $got = $self->_step('nobody known', ['auth.signInAnonymously'],
        email => '');
    my $id = $got->{user}{id};
    my $email = 'ann' . ++$people . '@example.com';
    $got = $self->_step('an address', ['auth.updateUser', { email => $email }],
        user => $id, email => $email);
    is "$got->{user}{id} $got->{user}{email}", "$id $email", 'the same user';
    $self->_step('refreshed', ['auth.refreshSession'], user => $id,
        email => $email);

    double()->config(autoconfirm => $FALSE);
    $self->_client;
    $got = $self->_step('another', ['auth.signInAnonymously'], email => '');
    $id = $got->{user}{id};
    $email = 'ann' . ++$people . '@example.com';
    $got = $self->_step('their address', ['auth.updateUser',
        { email => $email }], user => $id, email => '');
    $self->_step('confirmed', ['auth.verifyOtp', { type => 'email_change',
        email => $email, token => double()->otp($email)->{code} }],
        user => $id, email => $email);
    return;
}

sub _mfa {
    my ($self) = @_;
    $self->_client;
    my $user = _person();
    my @row = (user => $user->{id}, email => $user->{email});
    $self->_step('signed in', ['auth.signInWithPassword',
        { email => $user->{email}, password => $PASSWORD }], @row);
    my $got = $self->_step('enrolled', ['auth.mfa.enroll',
        { factorType => 'totp', friendlyName => 'app' }]);
    my $factor = $got->{data}{id};
    my $challenge = $self->_step('challenged', ['auth.mfa.challenge',
        { factorId => $factor }])->{data}{id};
    my $wrong = $self->{client}->call('auth.mfa.verify', { factorId => $factor,
        challengeId => $challenge, code => '000000' });
    is $wrong->{error}{code}, 'mfa_verification_failed', 'a wrong code';
    $self->_step('verified', ['auth.mfa.verify', { factorId => $factor,
        challengeId => $challenge, code => '123456' }], @row);
    my $level = $self->_step('the level',
        ['auth.mfa.getAuthenticatorAssuranceLevel'])->{data};
    is $level->{currentLevel} || $level->{current_level}, 'aal2', 'two';
    $got = $self->_step('the factors', ['auth.mfa.listFactors'], @row);
    is $got->{data}{totp}[0]{status}, 'verified', 'of which this is one';
    $self->_step('refreshed', ['auth.refreshSession'], @row);
    $self->_step('removed', ['auth.mfa.unenroll', { factorId => $factor }]);
    return;
}

sub _update {
    my ($self) = @_;
    $self->_client;
    my $user = _person();
    my @row = (user => $user->{id}, email => $user->{email});
    $self->_step('signed in', ['auth.signInWithPassword',
        { email => $user->{email}, password => $PASSWORD }], @row);
    my $got = $self->_step('data', ['auth.updateUser',
        { data => { lang => 'de' } }], @row);
    is $got->{user}{user_metadata}{lang}, 'de', 'theirs';
    my $new = 'new' . ++$people . '@example.com';
    $got = $self->_step('another address', ['auth.updateUser',
        { email => $new }], @row);
    is $got->{user}{email}, $user->{email}, 'the old one, for now';
    for my $kind ('current', 'new') {
        my $mail = double()->otp($new, "email_change_$kind")
            || double()->otp($user->{email}, "email_change_$kind");
        $self->_step("the code of the $kind address", ['auth.verifyOtp',
            { type => 'email_change', email => $mail->{to},
                token => $mail->{code} }], $kind eq 'new'
            ? (user => $user->{id}, email => $new) : ());
    }
    $self->_step('reauthenticated', ['auth.reauthenticate']);
    return;
}

1;
