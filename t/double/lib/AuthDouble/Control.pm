package AuthDouble::Control;
# The control port: how tests set the double up and see what arrived.
#
# POST /reset                 everything back to the start
# GET|POST /config            names and defaults: AuthDouble::Store
# GET|POST /users             POST also takes the *_at times, factors, role
# GET|POST|DELETE /users/ID   POST {"soft_deleted":true} as well
# POST /crowd {n, seed, domain, bulk}  many users at once: AuthDouble::Crowd
# POST /dump                  {file}: all users as in the admin list, a line
#                             each: id, email, phone, is_anonymous,
#                             banned_until, deleted_at, created_at, updated_at,
#                             with tabs between; times in microseconds, empty
#                             without one
# POST /at {op, nth, method, path, body}  this call of the control port when
#                             the nth request from now arrives, before the
#                             answer to it is made
# GET|POST|DELETE /faults     kinds: AuthDouble::Fault. Options of any fault:
#                             times, email (only requests that name it),
#                             commit (do the work, e.g. create the user, first)
# POST /release               the answers that a fault "hold" keeps back
# GET|DELETE /requests        what arrived on the auth ports
# GET /stats                  connections since the last reset, open ones
# GET /issued                 the tokens: {sub, session_id, method, time}
# GET /hooks                  how often hooks were called: {name => {calls,
#                             tries, answers => {allowed, refused}}}
# POST /save {last}           state into a file for --restore; last: no request
#                             changes it any more, all connections are closed
# POST /mint {id, claims}     an access token of that user
# POST /code {id, method, verifier}  {code} for the grant pkce
# POST /idtoken {provider, sub, email, name}  {id_token} for the grant id_token
# POST /grant {id, client_id, verifier}  {code} for POST /oauth/token
# POST /saml {sub, email}     {response} for POST /sso/saml/acs
# GET /mails[?email=]         the tokens of mails, all or those to that address
#                             or to that user: {id, email, phone, to, kind,
#                             code, hash}; kinds: AuthDouble::Store
# POST /keys {alg}            a new key of that algorithm signs from now on
# DELETE /keys                the JWKS loses those that sign no more
use strict;
use warnings;
use MIME::Base64 qw(encode_base64);
use AuthDouble::Http qw(query_param);
use AuthDouble::Json qw(encode decode obj num bool raw plain truthy);
use AuthDouble::Session;
use AuthDouble::UserJson qw(user_json now);
use AuthDouble::Walk qw(micros);

# new(app => AuthDouble::App)
sub new {
    my ($class, %self) = @_;
    return bless {%self}, $class;
}

my %ROUTE = (
    'POST /reset' => \&_reset, 'POST /config' => \&_configure,
    'GET /config' => sub { _native($_[0]{app}{store}{config}) },
    'POST /users' => \&_add_user, 'GET /users' => \&_users,
    'POST /crowd' => \&_add_crowd, 'POST /dump' => \&_dump,
    'POST /at' => sub { $_[0]{app}->plan($_[1]); obj() },
    'POST /faults' => \&_add_fault, 'DELETE /faults' => \&_clear_faults,
    'GET /faults' => sub { [map { obj(kind => $_->{kind}, op => $_->{op},
        times => num($_->{times})) } $_[0]{app}{faults}->list] },
    'POST /release' => sub { $_[0]{app}{faults}->release; obj() },
    'GET /requests' => \&_requests,
    'DELETE /requests' => sub { $_[0]{app}->clear_requests; obj() },
    'GET /issued' => sub { [map { obj(sub => $_->[0], session_id => $_->[1],
        method => $_->[2], time => raw(sprintf '%.6f', $_->[3]))
        } @{$_[0]{app}{store}{issued}}] },
    'GET /hooks' => sub { _native($_[0]{app}{store}{hook_stats}) },
    'GET /stats' => \&_stats, 'POST /save' => \&_save,
    'POST /mint' => \&_mint, 'POST /code' => \&_code,
    'POST /grant' => \&_grant, 'POST /saml' => sub { obj(response =>
        encode_base64(AuthDouble::Provider::assertion($_[1]), '')) },
    'POST /idtoken' => \&_id_token, 'GET /mails' => \&_mails,
    'POST /keys' => sub { obj(kid => $_[0]{app}{jwt}->rotate(
        $_[1]{alg} // 'ES256')) },
    'DELETE /keys' => sub { $_[0]{app}{jwt}->revoke; obj() },
);

sub handle {
    my ($self, $conn, $req) = @_;
    my $out = eval {
        my $in = length $req->{body} ? plain(decode($req->{body})) : {};
        $self->call($req->{method}, $req->{path}, $in, $req);
    };
    my $failed = $@;
    chomp $failed;
    return $conn->reply($req, {status => $failed ? 400 : 200,
        headers => [['Content-Type', 'application/json']],
        body => encode($failed ? obj(error => $failed) : $out)});
}

# call($method, $path, $in, $req): what is answered; dies with the reason
sub call {
    my ($self, $method, $whole, $in, $req) = @_;
    my ($path, $id) = $whole =~ m{\A(/[a-z]+)(?:/([^/]+))?\z};
    my $code = defined $path ? $ROUTE{"$method $path"} : undef;
    die "no such call: $method $whole\n" if !$code && !defined $id;
    return defined $id ? $self->_user_call($method, $path, $id, $in)
        : $code->($self, $in, $req);
}

sub _user_call {
    my ($self, $method, $path, $id, $in) = @_;
    my $store = $self->{app}{store};
    my $u = $path eq '/users' && $store->user($id) or die "no user $id\n";
    return user_json($u) if $method eq 'GET';
    if ($method eq 'DELETE') {
        $store->delete_user($u);
        return obj();
    }
    die "no such call\n" if $method ne 'POST';
    $self->_change_user($u, $in);
    return user_json($u);
}

sub _reset {
    my ($self) = @_;
    my $app = $self->{app};
    $app->{store}->reset;
    $app->{jwt}->reset;
    $app->clear_requests;
    $app->{stats} = {};
    $app->{$_} = [] for qw(together plans);
    $_->{accepted} = 0 for $app->auth_servers;
    return $self->_clear_faults;
}

sub _clear_faults {
    my ($self) = @_;
    my $app = $self->{app};
    $app->{faults}->clear;
    $app->accept_again;
    $app->drop_held;
    return obj();
}

sub _configure {
    my ($self, $in) = @_;
    $self->{app}{store}->configure($in);
    return _native($self->{app}{store}{config});
}

# perl values of the configuration as JSON
sub _native {
    my ($v) = @_;
    return {map { $_ => _native($v->{$_}) } keys %$v} if ref $v eq 'HASH';
    return [map { _native($_) } @$v] if ref $v eq 'ARRAY';
    return $v if !defined $v || ref $v;
    return $v =~ /\A(?:0|-?[1-9][0-9]{0,14})\z/ ? num($v) : $v;
}

my %TIME = map { $_ => 1 } qw(invited_at recovery_sent_at confirmation_sent_at
    email_confirmed_at phone_confirmed_at last_sign_in_at created_at
    updated_at deleted_at banned_until);
my %PLAIN = map { $_ => 1 } qw(password app_metadata user_metadata role factors
    phone aud new_email new_phone);

sub _add_user {
    my ($self, $in) = @_;
    my $store = $self->{app}{store};
    my $confirmed = exists $in->{confirmed} ? truthy($in->{confirmed})
        : !truthy($in->{anonymous}) && !exists $in->{invited_at};
    my $email = lc($in->{email} // '');
    my $aud = $in->{aud} // 'authenticated';
    die "$email exists already\n" if $email ne '' && $store->find($aud, $email);
    my $u = $store->create_user(email => $email, aud => $aud,
        phone => $in->{phone}, password => $in->{password}, id => $in->{id},
        anonymous => truthy($in->{anonymous}), data => $in->{user_metadata},
        confirmed => $confirmed);
    my %rest = %$in;
    delete @rest{qw(email aud phone password id anonymous user_metadata
        confirmed)};
    $self->_change_user($u, \%rest);
    return user_json($u);
}

sub _change_user {
    my ($self, $u, $in) = @_;
    my $store = $self->{app}{store};
    for my $k (keys %$in) {
        my $v = $in->{$k};
        if ($k eq 'email') { $store->set_email($u, lc($v // '')) }
        elsif ($k eq 'soft_deleted') { $store->soft_delete($u) }
        elsif ($k eq 'confirmed') { _confirm($store, $u, truthy($v)) }
        elsif ($k eq 'anonymous') { $u->{is_anonymous} = truthy($v) }
        elsif ($k eq 'banned') {
            $u->{banned_until} = truthy($v) ? [time + 3_155_760_000, 0] : undef;
        }
        elsif ($TIME{$k}) {
            $u->{$k} = ref $v || defined $v && $v eq '1' ? now() : $v;
        }
        elsif ($PLAIN{$k}) {
            $store->unindex_user($u);
            $u->{$k} = $v // ($k eq 'phone' ? '' : undef);
            $store->index_user($u);
        }
        else { die "cannot set $k\n" }
    }
    return $store->touch($u);
}

sub _confirm {
    my ($store, $u, $yes) = @_;
    return $store->confirm($u) if $yes;
    delete @$u{qw(email_confirmed_at phone_confirmed_at)};
    $_->{email_verified} = bool(0)
        for grep { exists $_->{email_verified} } $u->{user_metadata},
        map { $_->{identity_data} } @{$u->{identities}};
    return;
}

sub _users {
    my ($self) = @_;
    return [map { user_json($_) } $self->{app}{store}->users];
}

sub _add_crowd {
    my ($self, $in) = @_;
    $self->{app}{store}->add_crowd(map { $_ => AuthDouble::Store::_value(
        $in->{$_}) } keys %$in);
    return obj();
}

sub _dump {
    my ($self) = @_;
    my $app = $self->{app};
    my $file = "$app->{state}/users.txt";
    my $walk = $app->{store}->walk('authenticated');
    open my $fh, '>', $file or die "$file: $!\n";
    for ($walk->all) {
        my $u = ref $_ ? $_ : $walk->{crowd}->user($_);
        print {$fh} join("\t", @$u{qw(id email phone)},
            $u->{is_anonymous} ? 't' : 'f', map { defined $u->{$_}
            ? micros($u->{$_}) : '' } qw(banned_until deleted_at created_at
            updated_at)), "\n";
    }
    close $fh or die "$file: $!\n";
    return obj(file => $file);
}

sub _add_fault {
    my ($self, $in) = @_;
    my $app = $self->{app};
    my $f = $app->{faults}->add($in);
    $app->refuse($f) if $f->{kind} eq 'refuse';
    return obj(kind => $f->{kind}, op => $f->{op}, times => num($f->{times}));
}

sub _requests {
    my ($self) = @_;
    return [map { _request($_) } @{$self->{app}{requests}}];
}

sub _request {
    my ($r) = @_;
    my $req = $r->{req};
    my $json = eval { decode($req->{body}) };
    return obj(op => $r->{op}, method => $req->{method}, target => $req->{target},
        path => $req->{path}, query => $req->{query}, headers => $req->{headers},
        body => $req->{body}, json => $json,
        connection => num($r->{connection}), tls => bool($r->{tls}),
        time => raw(sprintf '%.6f', $r->{time}));
}

sub _stats {
    my ($self) = @_;
    my $app = $self->{app};
    my ($accepted, $open) = $app->connections;
    return obj(connections => num($accepted), open => num($open),
        requests => {map { $_ => num($app->{stats}{$_}) } keys %{$app->{stats}}});
}

sub _save {
    my ($self, $in) = @_;
    my $file = $self->{app}{state} . '/state.sto';
    $self->{app}->hang_up if truthy($in->{last});
    $self->{app}{store}->save($file);
    return obj(file => $file);
}

sub _code {
    my ($self, $in) = @_;
    my $store = $self->{app}{store};
    die "no such user\n" if !$store->user($in->{id} // '');
    my $code = AuthDouble::Store::uuid();
    $store->{codes}{$code} = [@$in{qw(id method verifier)}];
    return obj(code => $code);
}

sub _grant {
    my ($self, $in) = @_;
    my $store = $self->{app}{store};
    die "no such user\n" if !$store->user($in->{id} // '');
    my $code = AuthDouble::Store::uuid();
    $store->{grants}{$code} = {map { $_ => $in->{$_} // '' }
        qw(id client_id verifier)};
    return obj(code => $code);
}

sub _id_token {
    my ($self, $in) = @_;
    my $now = time;
    return obj(id_token => $self->{app}{jwt}->sign(obj(
        iss => "https://$in->{provider}.test", aud => 'double',
        exp => num($now + 3600), iat => num($now),
        map { defined $in->{$_} ? ($_ => $in->{$_}) : () }
        qw(sub email name))));
}

sub _mails {
    my ($self, undef, $req) = @_;
    my $store = $self->{app}{store};
    my $email = query_param($req, 'email');
    # one of a crowd becomes a user like the others
    $store->find('authenticated', $email, '') if defined $email;
    my @out;
    for my $u ($store->users) {
        my $otps = $u->{otp} or next;
        push @out, map { obj(id => $u->{id}, email => $u->{email},
            phone => $u->{phone}, to => $otps->{$_}{to}, kind => $_,
            code => $otps->{$_}{code}, hash => $otps->{$_}{hash}) }
            grep { !defined $email || $u->{email} eq $email
            || $otps->{$_}{to} eq $email } sort keys %$otps;
    }
    return \@out;
}

# an access token of our making: {id, alg?, claims?: {...}, header?: {...},
# expires_in?}; a claim or a header member that is null is left out
sub _mint {
    my ($self, $in) = @_;
    my $store = $self->{app}{store};
    my $u = $store->user($in->{id} // '') or die "no such user\n";
    my $now = time;
    my $ttl = $in->{expires_in} ? ${$in->{expires_in}} : 3600;
    my $claims = AuthDouble::Session::claims($store->{config}, $u,
        $store->new_session($u, 'password'), $now, $now + $ttl);
    my $more = $in->{claims} || {};
    AuthDouble::Fault::_set($claims, $_, $more->{$_}) for sort keys %$more;
    return obj(access_token =>
        $self->{app}{jwt}->sign($claims, $in->{alg}, $in->{header}));
}

1;
