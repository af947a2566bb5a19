# Every directive for what mod_proxy forwards is inherited by vhosts and
# sections, overridden in them and reset to its default; checked by what becomes
# of sessions and of administrators' requests.

use UserSync::Proxied;
use UserSync::Test;

my $PASS = 'ProxyPass "' . double->url . '/auth/v1/"';
my %user;

# A <Location> that forwards to the double, with these lines.
sub forwarded {
    my ($path, @lines) = @_;
    return join "\n", qq{<Location "$path">}, $PASS, @lines, "</Location>\n";
}

sub person {
    my $email = new_id() . '@example.com';
    return double->add_user(email => $email, password => 'correct horse');
}

# What a session meets: "MODE HEADERS ADDRESS ADMIN"; MODE is On if its row is
# sure, Report if that is only reported, Off if nobody looks; HEADERS says
# whether Supabase's reach the client; ADDRESS are the headers in which Supabase
# learns the client's; ADMIN says whether an administrator's request is denied.
sub effect {
    my ($httpd, $vhost, $path, $query) = @_;
    $vhost = undef if $vhost eq 'main';
    my $user = person();
    double->clear_requests;
    my $in = ask($httpd, POST => $httpd->url(
        "${path}token?grant_type=password" . ($query || ''), $vhost),
        { email => $user->{email}, password => 'correct horse' },
        'X-Forwarded-For' => '192.0.2.7', 'Sb-Forwarded-For' => '192.0.2.8');
    my ($outcome, $id, $report) = outcome($httpd);
    my ($asked) = double->requests('token');
    my $admin = ask($httpd, GET => $httpd->url("${path}admin/users?a=b"
        . ($query || ''), $vhost));
    my $mode = !$outcome ? 'Off' : $report ? 'Report' : 'On';
    # the row says the same as the notes
    fail "$path: " . show($in) if $in->{status} != 200
        || has_row($user->{id}) != ($mode ne 'Off')
        || ($id && ($id ne $user->{id} || $outcome ne 'ok'));
    return join ' ', $mode,
        $in->{headers}{'sb-auth-user-id'} ? 'Keep' : 'Remove',
        address_of($asked), $admin->{status} == 403
            && $admin->{json}{code} eq 'admin_not_proxied' ? 'Deny' : 'Allow';
}

# "Sb" if both headers have httpd's address, "X" if one has it and the other is
# taken away, "Off" if only what the client says of Supabase's own is.
sub address_of {
    my ($asked) = @_;
    my ($x, $sb) = map {
        my $name = $_;
        join(', ', map { $_->[1] } grep { lc $_->[0] eq $name }
            @{ $asked->{headers} }) || 'none'
    } qw(x-forwarded-for sb-forwarded-for);
    return { '127.0.0.1, 127.0.0.1' => 'Sb', '127.0.0.1, none' => 'X',
        '192.0.2.7, 127.0.0.1, none' => 'Off',
        '192.0.2.7, 127.0.0.1, 192.0.2.8' => 'untouched' }->{"$x, $sb"}
        || "($x, $sb)";
}

sub effects_ok {
    my ($httpd, @cases) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $case (@cases) {
        my ($vhost, $path, $expected, $query) = @$case;
        is effect($httpd, $vhost, $path, $query), $expected,
            "$vhost $path" . ($query || '');
    }
    return;
}

# ---- from the main server to its vhosts

my $AUTH = forwarded('/auth/v1/');
my %vhost = (
    same    => $AUTH,
    own     => "UserSyncTable public.users\n$AUTH",
    off     => "UserSyncEnsureResponse Off\n$AUTH",
    report  => "UserSyncEnsureResponse Report\n$AUTH",
    deny    => "UserSyncProxyAdmin Deny\n$AUTH",
    remove  => "UserSyncProxyHeaders Remove\n$AUTH",
    no_ip   => "UserSyncForwardClientIP Off\n$AUTH",
    x       => "UserSyncForwardClientIP X-Forwarded-For\n$AUTH",
    section => forwarded('/auth/v1/', 'UserSyncEnsureResponse Report',
        'UserSyncProxyAdmin Deny', 'UserSyncProxyHeaders Remove'),
    inside  => forwarded('/auth/v1/', 'UserSyncProxyAdmin Deny',
        'UserSyncProxyHeaders Remove'),
    last    => "UserSyncEnsureResponse Off\nUserSyncEnsureResponse Report\n"
        . "UserSyncProxyAdmin Deny\nUserSyncProxyAdmin Allow\n$AUTH",
    nest    => <<'CONF' . $AUTH . forwarded('/other/') . <<'MORE',
UserSyncEnsureResponse Report
UserSyncProxyHeaders Remove
CONF
<Location "/auth/v1/">
    UserSyncProxyAdmin Deny
    <If "%{QUERY_STRING} =~ /if/">
        UserSyncEnsureResponse On
        UserSyncProxyHeaders Keep
        <If "%{QUERY_STRING} =~ /if-not/">
            UserSyncEnsureResponse Off
        </If>
    </If>
</Location>
<LocationMatch "^/other/">
    UserSyncEnsureResponse Off
</LocationMatch>
<Location "/other/token">
    UserSyncEnsureResponse On
</Location>
MORE
);

my %ALL = (UserSyncEnsureResponse => 'On', UserSyncProxyAdmin => 'Allow',
    UserSyncProxyHeaders => 'Keep',
    UserSyncForwardClientIP => 'Sb-Forwarded-For');

# A server with these lines, whose sections have none.
sub server {
    my ($lines, $vhosts) = @_;
    my $httpd = proxied_server('app', children => 1, vhosts => $vhosts,
        lines => ['# no line'],
        config => join '', map {"$_ $lines->{$_}\n"} sort keys %$lines);
    $httpd->allow_log(qr/US010/);
    return $httpd->start;
}

subtest 'inherited by vhosts' => sub {
    my $httpd = server(\%ALL, \%vhost);
    effects_ok($httpd,
        [main    => '/auth/v1/', 'On Keep Sb Allow'],
        [same    => '/auth/v1/', 'On Keep Sb Allow'],
        [own     => '/auth/v1/', 'On Keep Sb Allow'],
        [off     => '/auth/v1/', 'Off Keep untouched Allow'],
        [report  => '/auth/v1/', 'Report Keep Sb Allow'],
        [deny    => '/auth/v1/', 'On Keep Sb Deny'],
        [remove  => '/auth/v1/', 'On Remove Sb Allow'],
        [no_ip   => '/auth/v1/', 'On Keep Off Allow'],
        [x       => '/auth/v1/', 'On Keep X Allow'],
        [inside  => '/auth/v1/', 'On Remove Sb Deny'],
        [last    => '/auth/v1/', 'Report Keep Sb Allow'],
        # what is reported only reaches the client as it is
        [section => '/auth/v1/', 'Report Keep Sb Allow'],
        [nest    => '/auth/v1/', 'Report Keep Sb Allow'],
        [nest    => '/auth/v1/', 'On Keep Sb Deny', '&if'],
        [nest    => '/auth/v1/', 'Off Keep untouched Allow', '&if-not'],
        [nest    => '/other/',   'On Remove Sb Allow']);
    $httpd->allow_log(qr/admin_not_proxied/);
    $httpd->stop;
};

subtest 'the defaults in the main server' => sub {
    my %own = (same => $AUTH, on => "UserSyncEnsureResponse On\n$AUTH",
        map { $_ => $vhost{$_} } qw(report section));
    my $httpd = server({ UserSyncForwardClientIP => 'Off' }, {%own,
        allow => forwarded('/auth/v1/', 'UserSyncEnsureResponse On',
            'UserSyncProxyAdmin Allow', 'UserSyncProxyHeaders Keep')});
    $httpd->allow_log(qr/admin_not_proxied/);
    effects_ok($httpd,
        [main    => '/auth/v1/', 'Off Keep untouched Allow'],
        [same    => '/auth/v1/', 'Off Keep untouched Allow'],
        [on      => '/auth/v1/', 'On Remove Off Deny'],
        [report  => '/auth/v1/', 'Report Keep Off Allow'],
        [allow   => '/auth/v1/', 'On Keep Off Allow']);
    $httpd->stop;
};

# httpd merges a section of the main server into all vhosts, before their own.
subtest 'sections of the main server' => sub {
    my $httpd = proxied_server('app', children => 1, vhosts => {
        same  => $AUTH,
        level => "UserSyncEnsureResponse Off\n$AUTH",
        part  => forwarded('/auth/v1/', 'UserSyncProxyAdmin Allow'),
        off   => forwarded('/auth/v1/', 'UserSyncEnsureResponse Off'),
    }, lines => ['UserSyncEnsureResponse On']);
    $httpd->allow_log(qr/admin_not_proxied/);
    $httpd->start;
    effects_ok($httpd,
        [main  => '/auth/v1/', 'On Remove X Deny'],
        [same  => '/auth/v1/', 'On Remove X Deny'],
        [level => '/auth/v1/', 'On Remove X Deny'],
        [part  => '/auth/v1/', 'On Remove X Allow'],
        [off   => '/auth/v1/', 'Off Keep untouched Allow']);
    $httpd->stop;
};

done_testing;
