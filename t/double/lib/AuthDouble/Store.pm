package AuthDouble::Store;
# Everything the double remembers: configuration, users, sessions, refresh
# tokens, rate buckets.
use strict;
use warnings;
use Digest::SHA qw(sha224_hex);
use Storable ();
use AuthDouble::Crowd;
use AuthDouble::Json qw(bool);
use AuthDouble::UserJson qw(now);
use AuthDouble::Walk;

my @KEPT = qw(config crowd users order by_email by_phone sessions refresh codes
    otps challenges relays grants issued hook_stats);
my $lives = 0;

# new(config => {...}): start values that reset() goes back to
sub new {
    my ($class, %arg) = @_;
    my $self = bless {start => _defaults()}, $class;
    $self->reset;
    $self->configure($arg{config} || {});
    $self->{start} = Storable::dclone($self->{config});
    return $self;
}

sub _defaults {
    return {
        autoconfirm => 1,
        api_format => 'header',        # legacy, or old: before codes
        disable_signup => 0,
        email_provider => 1,
        phone_provider => 0,
        anonymous => 0,
        captcha_token => undef,
        rate_limit => undef,           # {token => N, signup => N}, no refill
        rate_limit_header => '',
        mail_window => 0,              # seconds between two mails to one user
        mail_budget => undef,          # mails left for the whole project
        keys => [],
        weak_password_min => 6,
        weak_password_characters => [],
        pwned_passwords => [],
        invalid_emails => [],
        unauthorized_emails => [],
        hook_reject => undef,          # {http_code, message}
        hooks => {},                   # see AuthDouble::Hook
        hook_timeout => 5,             # seconds, for all tries together
        hook_backoff => 2,             # seconds after a lost connection
        hook_claims => 'raw',          # or sorted, as a Go map is written
        signup_together => 0,          # so many look up before one inserts
        reuse_tokens => 0,
        user_metadata_extra => {},
        role => 'authenticated',
        issuer => 'https://fixtureref.supabase.co/auth/v1',
        jwt_exp => 3600,
        jwt_alg => 'ES256',
        refresh_format => 'v1',        # or v2
        refresh_reuse_interval => 0,   # seconds
        refresh_rotation => 1,         # punishes reuse
        refresh_wait => 5,             # seconds for others with that session
        site_url => 'http://127.0.0.1:3000',
        external_url => '',            # or where browsers see this server
        providers => {},               # see AuthDouble::Provider
        secure_email_change => 1,      # both addresses confirm it
        otp_exp => 3600,               # seconds that a mail's token lives
        mfa_code => '123456',          # of every factor
        cursor_pagination => 0,        # of the admin list
        order_of_equals => 1,          # seed for each list; 0: a fixed order
        record_requests => 1,
        max_requests => 10_000,
    };
}

sub reset {
    my ($self) = @_;
    $self->{config} = Storable::dclone($self->{start});
    $self->{$_} = {} for qw(users by_email by_phone sessions refresh buckets
        codes otps challenges relays grants busy hook_stats);
    $self->{$_} = [] for qw(order issued);
    $self->{lists} = 0;
    delete @$self{qw(crowd walks)};
    $self->{life} = ++$lives;
    return;
}

# configure({name => value}); dies on a name that does not exist
sub configure {
    my ($self, $h) = @_;
    for my $k (keys %$h) {
        die "unknown config: $k\n" if !exists $self->{config}{$k};
    }
    _check_hooks($h->{hooks} || {});
    for my $k (keys %$h) {
        $self->{config}{$k} = _value($h->{$k}, $k eq 'user_metadata_extra');
        $self->{buckets} = {} if $k eq 'rate_limit';
    }
    delete $_->{cache} for values %{$self->{users}};
    return;
}

sub _check_hooks {
    my ($hooks) = @_;
    for my $name (grep { exists $hooks->{$_}{uri} } keys %$hooks) {
        die "the hook $name is not called\n" if $name !~
            /\A(?:custom_access_token|(?:before|after)_user_created)\z/;
        die "not the URI of a hook: $hooks->{$name}{uri}\n"
            if $hooks->{$name}{uri} !~ m{\Ahttps?://[^/]+};
    }
    return;
}

sub _value {
    my ($v, $json) = @_;
    my $type = ref $v;
    return $$v if $type eq 'AuthDouble::Json::Num';
    return $$v eq 'true' ? 1 : 0 if $type eq 'AuthDouble::Json::Bool';
    return $v if $json;
    return {map { $_ => _value($v->{$_}) } keys %$v} if $type eq 'HASH';
    return [map { _value($_) } @$v] if $type eq 'ARRAY';
    return $v;
}

sub save {
    my ($self, $file) = @_;
    Storable::nstore({map { $_ => $self->{$_} } @KEPT}, "$file.new");
    rename "$file.new", $file or die "$file: $!\n";
    return;
}

sub restore {
    my ($self, $file) = @_;
    my $old = Storable::retrieve($file);
    $self->{$_} = $old->{$_} for @KEPT;
    delete $self->{walks};
    return;
}

sub uuid {
    my @r = map { int rand 65536 } 1 .. 8;
    return sprintf '%04x%04x-%04x-%04x-%04x-%04x%04x%04x', @r[0 .. 2],
        $r[3] & 0x0fff | 0x4000, $r[4] & 0x3fff | 0x8000, @r[5 .. 7];
}

# one of the crowd becomes a user like the others
sub user {
    my ($self, $id) = @_;
    my $crowd = $self->{crowd};
    my $i = $self->{users}{$id} || !$crowd ? undef : $crowd->index_of($id);
    return $self->{users}{$id} if !defined $i;
    my $u = $crowd->user($i);
    $crowd->leave($i);
    $self->add_user($u);
    return $u;
}

# the same to look at only
sub peek {
    my ($self, $id) = @_;
    my $crowd = $self->{crowd};
    my $i = $self->{users}{$id} || !$crowd ? undef : $crowd->index_of($id);
    return defined $i ? $crowd->user($i) : $self->{users}{$id};
}

# add_crowd(n => N, ...): see AuthDouble::Crowd
sub add_crowd {
    my ($self, %arg) = @_;
    die "there is a crowd already\n" if $self->{crowd};
    $self->{crowd} = AuthDouble::Crowd->new(%arg);
    delete $self->{walks};
    return;
}

# everybody with this audience in the order of the admin list
sub walk {
    my ($self, $aud) = @_;
    return $self->{walks}{$aud} //= AuthDouble::Walk->new(
        $aud eq 'authenticated' ? $self->{crowd} : undef,
        grep { $_->{aud} eq $aud } $self->users);
}

# those who are not a number in a crowd
sub users { my $s = shift; return map { $s->{users}{$_} } @{$s->{order}} }

sub find {
    my ($self, $aud, $email, $phone) = @_;
    my $id = length $email ? $self->{by_email}{"$aud\0$email"}
        : $self->{by_phone}{"$aud\0$phone"};
    if (!defined $id && $self->{crowd} && $aud eq 'authenticated') {
        my $i = $self->{crowd}->index_of_email($email);
        return $self->user($self->{crowd}->id($i)) if defined $i;
    }
    return defined $id ? $self->{users}{$id} : undef;
}

# create_user(email, phone, password, aud, data, id?, confirmed?, anonymous?,
#     provider?, subject?: another provider and its id of the user,
#     identity?: what this provider knows besides, is_sso?)
sub create_user {
    my ($self, %a) = @_;
    my $u = $self->make_user(%a);
    die "user $u->{id} exists already\n" if $self->{users}{$u->{id}};
    $self->add_user($u);
    $self->confirm($u) if $a{confirmed};
    return $u;
}

# a user that nobody else sees before add_user
sub make_user {
    my ($self, %a) = @_;
    my $t = now();
    my $email = $a{email} // '';
    my $phone = $a{phone} // '';
    my $provider = $a{provider} // (length $email ? 'email' : 'phone');
    my $u = {
        id => $a{id} // uuid(), aud => $a{aud} // 'authenticated',
        role => $self->{config}{role}, email => $email, phone => $phone,
        password => $a{password}, created_at => $t, updated_at => $t,
        is_anonymous => $a{anonymous} ? 1 : 0, identities => [],
        app_metadata => $a{anonymous} ? {}
            : {provider => $provider, providers => [$provider]},
        user_metadata => {%{$self->{config}{user_metadata_extra}},
            %{$a{data} || {}}}, is_sso => $a{is_sso} ? 1 : 0,
    };
    $self->_add_identity($u, $provider, $t, \%a) if !$a{anonymous};
    return $u;
}

sub add_user {
    my ($self, $u) = @_;
    $self->{users}{$u->{id}} = $u;
    push @{$self->{order}}, $u->{id};
    delete $self->{walks};
    return $self->index_user($u);
}

sub _add_identity {
    my ($self, $u, $provider, $t, $arg) = @_;
    my %data = (%{$arg->{identity} || {}},
        sub => $arg->{subject} // $u->{id}, email_verified => bool(0),
        phone_verified => bool(0),
        (length $u->{email} ? (email => $u->{email}) : ()));
    $u->{user_metadata} = {%{$u->{user_metadata}}, %data};
    push @{$u->{identities}}, {
        identity_id => uuid(), id => $data{sub}, user_id => $u->{id},
        identity_data => {%data}, provider => $provider,
        last_sign_in_at => $t, created_at => $t, updated_at => $t,
        (length $u->{email} ? (email => $u->{email}) : ()),
    };
    return;
}

sub index_user {
    my ($self, $u) = @_;
    return if $u->{is_sso};    # many may have that address
    $self->{by_email}{"$u->{aud}\0$u->{email}"} = $u->{id} if length $u->{email};
    $self->{by_phone}{"$u->{aud}\0$u->{phone}"} = $u->{id} if length $u->{phone};
    return;
}

sub unindex_user {
    my ($self, $u) = @_;
    return if $u->{is_sso};
    delete $self->{by_email}{"$u->{aud}\0$u->{email}"};
    delete $self->{by_phone}{"$u->{aud}\0$u->{phone}"};
    return;
}

sub confirm {
    my ($self, $u) = @_;
    my $email = length $u->{email};
    $u->{$email ? 'email_confirmed_at' : 'phone_confirmed_at'} = now();
    if ($email) {
        $_->{email_verified} = bool(1)
            for grep { exists $_->{email_verified} } $u->{user_metadata},
            map { $_->{identity_data} } @{$u->{identities}};
    }
    return $self->touch($u);
}

sub confirmed {
    my ($self, $u) = @_;
    return defined $u->{length $u->{email} ? 'email_confirmed_at'
        : 'phone_confirmed_at'};
}

sub touch {
    my ($self, $u) = @_;
    $u->{updated_at} = now();
    delete $u->{cache};
    delete $self->{walks};
    return;
}

sub set_email {
    my ($self, $u, $email) = @_;
    $self->unindex_user($u);
    $u->{email} = $email;
    $self->index_user($u);
    if ($email eq '') {
        @{$u->{identities}} = grep { $_->{provider} ne 'email' }
            @{$u->{identities}};
        delete $u->{user_metadata}{email};
    }
    else {
        $u->{user_metadata}{email} = $email if @{$u->{identities}};
        for my $i (grep { $_->{provider} eq 'email' } @{$u->{identities}}) {
            $i->{email} = $i->{identity_data}{email} = $email;
        }
    }
    return $self->touch($u);
}

# The new address is the address from now on, and an anonymous user is nobody
# unknown any more. It is not found by it before index_user.
sub take_new_email {
    my ($self, $u) = @_;
    my $email = $u->{email} = delete $u->{new_email};
    delete @$u{qw(email_change_step is_anonymous)};
    my ($known) = grep { $_->{provider} eq 'email' } @{$u->{identities}};
    if (!$known) {
        $self->_add_identity($u, 'email', now(), {});
        $u->{app_metadata} = {%{$u->{app_metadata}}, provider => 'email',
            providers => [map { $_->{provider} } @{$u->{identities}}]};
    }
    else {
        $known->{email} = $known->{identity_data}{email} = $email;
        $u->{user_metadata}{email} = $email;
    }
    $u->{email_confirmed_at} //= now();
    $_->{email_verified} = bool(1) for $u->{user_metadata},
        map { $_->{identity_data} } grep { $_->{provider} eq 'email' }
        @{$u->{identities}};
    return $self->touch($u);
}

sub delete_user {
    my ($self, $u) = @_;
    $self->unindex_user($u);
    $self->end_session($_) for grep { $_->{user_id} eq $u->{id} }
        values %{$self->{sessions}};
    delete $self->{users}{$u->{id}};
    @{$self->{order}} = grep { $_ ne $u->{id} } @{$self->{order}};
    delete $self->{walks};
    return;
}

# As Supabase does it: the row stays, and says nothing about the person.
sub soft_delete {
    my ($self, $u) = @_;
    my ($id, $email, $phone) = @$u{qw(id email phone)};
    my $hash = \&AuthDouble::Crowd::hash_of;
    $self->unindex_user($u);
    $self->end_session($_) for grep { $_->{user_id} eq $id }
        values %{$self->{sessions}};
    @$u{qw(email new_email phone new_phone)} = ($hash->($id, $email, 43),
        $hash->($id, '', 43), $hash->($id, $phone, 15), $hash->($id, '', 15));
    @$u{qw(app_metadata user_metadata)} = ({}, {});
    for my $i (@{$u->{identities}}) {
        $i->{id} = $hash->($i->{identity_id}, $i->{id}, 43);
        delete @$i{qw(identity_data email)};
    }
    $u->{deleted_at} = now();
    $self->index_user($u);
    return $self->touch($u);
}

sub banned {
    my ($self, $u) = @_;
    my $until = $u->{banned_until} or return 0;
    return !ref $until || $until->[0] > time;
}

# ---- mails
# new_otp($user, $kind, $challenge): the code of a mail, and what its link has
# instead. Kinds: confirmation, recovery, reauthentication, and for an address
# that changes email_change_current and email_change_new. With a challenge of
# PKCE the link ends in a code.
sub new_otp {
    my ($self, $u, $kind, $challenge) = @_;
    $self->drop_otp($u, $kind);
    my $code = sprintf '%06d', int rand 1_000_000;
    my $to = $kind eq 'email_change_new' ? $u->{new_email}
        : $u->{email} ne '' ? $u->{email} : $u->{phone};
    my $hash = ($challenge ? 'pkce_' : '') . sha224_hex($to . $code);
    $u->{otp}{$kind} = {code => $code, hash => $hash, sent => time, to => $to,
        challenge => $challenge};
    $self->{otps}{$hash} = [$u->{id}, $kind];
    return;
}

sub drop_otp {
    my ($self, $u, $kind) = @_;
    my $otp = delete $u->{otp}{$kind} or return;
    delete $self->{otps}{$otp->{hash}};
    return;
}

# ---- sessions and refresh tokens

sub new_session {
    my ($self, $u, $method) = @_;
    return $self->add_session($self->make_session($u, $method));
}

# a session with its first refresh token, unknown before add_session
sub make_session {
    my ($self, $u, $method) = @_;
    return {id => uuid(), user_id => $u->{id}, aal => 'aal1', counter => 0,
        amr => [[$method, time]], refreshed => time,
        tokens => [$self->make_token]};
}

sub add_session {
    my ($self, $s) = @_;
    $self->{sessions}{$s->{id}} = $s;
    $self->{refresh}{$_} = {session => $s->{id}} for @{$s->{tokens}};
    return $s;
}

my @V1 = ('a' .. 'z', 0 .. 9);
my @V2 = ('A' .. 'Z', 'a' .. 'z', 0 .. 9, '-', '_');

sub make_token {
    my ($self) = @_;
    return $self->{config}{refresh_format} eq 'v2'
        ? 'A' . join('', map { $V2[rand @V2] } 1 .. 50)
        : join '', map { $V1[rand @V1] } 1 .. 12;
}

# $token follows $parent, which is good no more
sub add_token {
    my ($self, $s, $token, $parent) = @_;
    return if !$self->{sessions}{$s->{id}};
    $self->{refresh}{$parent}{revoked} //= time;
    $self->{refresh}{$token} = {session => $s->{id}, parent => $parent};
    push @{$s->{tokens}}, $token;
    $s->{counter}++;
    $s->{refreshed} = time;
    return;
}

# the newest token that is good, or undef
sub active_token {
    my ($self, $s) = @_;
    my @good = grep { !$self->{refresh}{$_}{revoked} } @{$s->{tokens}};
    return $good[-1];
}

sub end_session {
    my ($self, $s) = @_;
    delete @{$self->{refresh}}{@{$s->{tokens}}};
    delete $self->{sessions}{$s->{id}};
    delete $self->{users}{$s->{user_id}}{cache}
        if $self->{users}{$s->{user_id}};
    return;
}

# take one from a bucket that is never refilled; false when it is empty
sub take_rate {
    my ($self, $bucket, $ip) = @_;
    my $limit = $self->{config}{rate_limit} or return 1;
    return 1 if !defined $limit->{$bucket};
    return $self->{buckets}{$bucket}{$ip}++ < $limit->{$bucket};
}

1;
