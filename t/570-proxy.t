# What Supabase's own clients ask through mod_proxy: whose row is made sure of
# before which answer, and which answers go out as they are.

use UserSync::Proxied;
use UserSync::Test;

my $httpd = proxied_server('app', vhosts => { plain => proxied(
    lines => ['UserSyncEnsureResponse Off']) })->start;
my $password = 'correct horse';
my $number = 0;

double->config(autoconfirm => JSON::PP::true(), anonymous => JSON::PP::true());

sub person {
    return double->add_user(email => 'p' . ++$number . '@example.com',
        password => $password, @_);
}

sub password_grant {
    my ($user, %header) = @_;
    return ask($httpd, POST => '/token?grant_type=password',
        { email => $user->{email}, password => $password }, %header);
}

# An answer with a session, and the row of its user.
sub session_ok {
    my ($response, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $id = user_of($response);
    return is_deeply [$response->{status}, $id && has_row($id),
            [outcome($httpd)], $response->{json}{access_token} ? 1 : 0],
        [200, 1, ['ok', $id], 1], $name || 'a session and a row'
        or diag show($response);
}

subtest 'sessions in the body' => sub {
    my $user = person();
    my $response = password_grant($user);
    session_ok $response, 'password';
    is row_of($user->{id})->{email}, $user->{email}, 'with the e-mail';
    ok !(grep {/^sb-auth/} keys %{ $response->{headers} }),
        'nothing about the session is in the headers';
    session_ok ask($httpd, POST => '/token?grant_type=refresh_token',
        { refresh_token => $response->{json}{refresh_token} }), 'refresh';
    session_ok ask($httpd, POST => '/signup',
        { email => 'new@example.com', password => $password }), 'sign-up';
    session_ok ask($httpd, POST => '/signup', {}), 'anonymous';
    session_ok ask($httpd, POST => '/verify', { type => 'email',
        email => $user->{email}, token => otp_for($user) }), 'a code by mail';
    session_ok ask($httpd, POST => '/token?grant_type=password',
        { email => $user->{email}, password => $password }, Range => 'bytes=0-9',
        'Accept-Encoding' => 'gzip, br'), 'with a range';
};

sub otp_for {
    my ($user) = @_;
    ask($httpd, POST => '/otp', { email => $user->{email} });
    return double->otp($user->{email})->{otp};
}

done_testing;
