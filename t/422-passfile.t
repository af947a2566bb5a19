# PostgreSQL requires a password, and libpq reads it from a passfile: the file
# belongs to the user of httpd's children, and nobody else can read it.

use UserSync::Tables;
use UserSync::Test;

my $PASSWORD = 'a:pass\\word of its own';

my $pg = UserSync::Postgres->new->init;
spew($pg->data . '/pg_hba.conf', "local all all trust\n"
    . "host all all 127.0.0.1/32 scram-sha-256\n");
$pg->start->createdb('app');
$pg->sql(app => q{SET password_encryption = 'scram-sha-256'});
$pg->sql(app => 'ALTER ROLE "www-data" PASSWORD '
    . $pg->dbh('app')->quote($PASSWORD));

my $escaped = $PASSWORD =~ s/([:\\])/\\$1/gr;

# The lines for a server whose passfile has this mode.
sub with_passfile {
    my ($name, $mode) = @_;
    my $file = spew(UserSync::Util::new_dir('pass') . "/$name",
        '127.0.0.1:' . $pg->port . ":app:www-data:$escaped\n");
    chmod $mode, $file;
    my $dsn = $pg->dsn_tcp('app', passfile => $file);
    return UserSync::Httpd->new(children => 1,
        config => module_config(DBDParams => qq{"$dsn"},
            UserSyncStoreTimeout => "500ms"));
}

my $httpd = with_passfile('fine', 0600)->start;
my $person = person();
my $response = log_in($httpd, $person);
is $response->{status}, 200, 'mode 0600: logged in' or diag show($response);
is $pg->value(app => 'SELECT email FROM users WHERE id = ?', $person->{id}),
    $person->{email}, 'with a row';
for my $mode (0640, 0604, 0000) {
    my $name  = sprintf 'mode %04o', $mode;
    my $other = with_passfile('bad', $mode)->start;
    my $refused = log_in($other, person());
    is $refused->{status}, 503, "$name: the file is not used"
        or diag show($refused);
    # libpq gives the reason on stderr, not as a line of httpd
    $other->allow_log(qr/password file "[^"]+" has group or world access/);
    $other->expect_log(qr/fe_sendauth: no password supplied/);
    $other->expect_log(qr/usersync-login: store_unavailable/);
    $other->allow_log(qr/Failed to acquire DBD connection/);
    $other->stop;
}
unlike slurp($httpd->error_log), qr/\Q$PASSWORD\E|\Q$escaped\E/,
    'no password in the log';

done_testing;
