package AuthDouble::Session;
# The session object that every sign-in ends with, and the claims of its access
# token. Nothing is stored before the project's hook has answered.
use strict;
use warnings;
use Exporter 'import';
use Storable ();
use Time::HiRes ();
use AuthDouble::Hook;
use AuthDouble::Json qw(obj num bool raw);
use AuthDouble::Later qw(when is_later);
use AuthDouble::UserJson qw(user_json now);

our @EXPORT_OK = qw(session claims);

# session($c, $user, method =>, ...): the answer that signs a user in, at once
# or later. The method is what the hook is told. A session that goes on is
# "busy" until then: others must wait.
#   session => one that goes on, aal and amr => what it is raised to
#   token => its refresh token after this (the present one)
#   counter => the number of that token
#   change => sub { my ($user) = @_; ... }: what happens to the user
#   commit => sub: what is done when the token is certain
#   headers => [[name, value]...], bare => 1: without headers about the session
#   client_id => the application that a new session is for
#   weak_password => as it stands in the answer
# and the options of user_json
sub session {
    my ($c, $user, %opt) = @_;
    my $s = $opt{session} // $c->{store}->make_session($user, $opt{method});
    $s->{client_id} = $opt{client_id} if $opt{client_id};
    my $refresh = $opt{token} // $s->{tokens}[-1];
    my @headers = $opt{bare} ? () : (_headers($s, $refresh,
        $opt{counter} // $s->{counter}), @{$opt{headers} || []});
    my $seen = $user;
    if ($opt{change}) {
        $seen = Storable::dclone({%$user, cache => undef});
        $opt{change}->($seen);
    }
    my $iat = time;
    my @claims = ($c->{config}, $seen, {%$s, map { $_ => $opt{$_} }
        grep { $opt{$_} } qw(aal amr)}, $iat, $iat + $c->{config}{jwt_exp});
    my $said = AuthDouble::Hook::run($c, 'custom_access_token', sub {
        # golang-jwt writes a list before the first token of the process
        return (user_id => $user->{id}, claims => claims(@claims,
            !$c->{jwt}{has_signed}), authentication_method => $opt{method});
    });
    my $answer = when($said, sub {
        my ($said) = @_;
        if ($said && $said->{status}) {   # all is rolled back but the headers
            push @{$said->{headers}}, @headers;
            return $said;
        }
        _commit($c, $user, $s, \%opt);
        return _answer($c, $user, $refresh, \@headers, \%opt,
            $said ? raw($said->{claims}) : claims(@claims), $claims[-1]);
    });
    return $answer if !$opt{session} || !is_later($answer);
    my $busy = $c->{store}{busy};
    $busy->{$s->{id}} = 1;
    return $answer->finally(sub { delete $busy->{$s->{id}} });
}

sub _commit {
    my ($c, $user, $s, $opt) = @_;
    my $store = $c->{store};
    $opt->{change}->($user) if $opt->{change};
    $opt->{commit}->() if $opt->{commit};
    if (!$opt->{session}) {
        $store->add_session($s);
        $user->{last_sign_in_at} = now();
        $opt->{fresh}{last_sign_in_at} = 1;
    }
    $store->touch($user) if !$opt->{session} || $opt->{change};
    push @{$store->{issued}}, [$user->{id}, $s->{id}, $opt->{method},
        Time::HiRes::time()];
    return;
}

sub _answer {
    my ($c, $user, $refresh, $headers, $opt, $claims, $exp) = @_;
    my $token = $c->{jwt}->sign($claims, $c->{config}{jwt_alg});
    $c->{jwt}{has_signed} = 1;
    my $res = $c->json(200, obj(
        access_token => $token, token_type => 'bearer',
        expires_in => num($c->{config}{jwt_exp}), expires_at => num($exp),
        refresh_token => $refresh, user => user_json($user, %$opt),
        (exists $opt->{weak_password}
            ? (weak_password => $opt->{weak_password}) : ())), @$headers);
    # for those who do not answer with JSON
    $res->{session} = {access_token => $token, refresh_token => $refresh,
        expires_in => $c->{config}{jwt_exp}, expires_at => $exp};
    return $res;
}

sub _headers {
    my ($s, $refresh, $counter) = @_;
    return (['Sb-Auth-User-Id', $s->{user_id}],
        ['Sb-Auth-Session-Id', $s->{id}],
        length $refresh == 12
            ? ['Sb-Auth-Refresh-Token-Prefix', substr $refresh, 0, 5]
            : ['Sb-Auth-Refresh-Token-Counter', $counter]);
}

sub claims {
    my ($config, $user, $s, $iat, $exp, $list) = @_;
    return obj(
        ($config->{issuer} ? (iss => $config->{issuer}) : ()),
        sub => $user->{id}, aud => $list ? [$user->{aud}] : $user->{aud},
        exp => num($exp), iat => num($iat), email => $user->{email},
        phone => $user->{phone}, app_metadata => $user->{app_metadata},
        user_metadata => $user->{user_metadata}, role => $user->{role},
        aal => $s->{aal}, amr => [map { obj(method => $_->[0],
            timestamp => num($_->[1])) } @{$s->{amr}}],
        session_id => $s->{id}, is_anonymous => bool($user->{is_anonymous}),
        ($s->{client_id} ? (client_id => $s->{client_id}) : ()));
}

1;
