# No secret of a hook, and nothing that is signed with it, is ever logged; a
# graceful restart uses the secret that is in the file then.

use MIME::Base64 qw(decode_base64);

use UserSync::Gate;
use UserSync::Hook;
use UserSync::Tables;
use UserSync::Test;

my $DB = scratch_db('usersync_hook_secrets');
my @SECRETS = map { secret_of($_) } 24, 40, 64;
my $file = spew("$ENV{USERSYNC_RUN}/rotated.$$.secret", "$SECRETS[0]\n");
chmod 0600, $file;
my $own = reserve_port();

my $httpd = UserSync::Httpd->new(children => 1, config => "LogLevel trace8\n"
    . UserSync::Gate::database($DB) . <<"CONF" . hook_lines('/hook'))->start;
UserSyncHookSecret file:$file
UserSyncHookSecret "$SECRETS[1]|$SECRETS[2]"
UserSyncHookForward http://127.0.0.1:$own/
CONF
UserSync::Gate::has_rows_in($DB);
$httpd->allow_log(qr/:(?:warn|error)\]/);

my %meta = (user_metadata => \'{"name":"MetaNeverLogged"}',
    app_metadata => \'{"role":"MetaNeverLogged"}');
my $body = token_body(%meta);
call_hook($httpd, $body, secrets => $_) for @SECRETS, $SECRET;
call_hook($httpd, token_body(%meta, $_ => 'MetaNeverLogged'),
    secrets => $SECRETS[1]) for 'sub', 'email';
call_hook($httpd, $_, secrets => $SECRETS[2]) for "$body x", '{', '{}',
    created_body('send-email', %meta), created_body('after-user-created', %meta);
call_hook($httpd, $body, headers => { 'Webhook-Signature' => $_ })
    for $SECRETS[0], "v1,$SECRETS[1]", '';
postgres()->sql($DB => 'ALTER TABLE users ADD CHECK (email <> \'bad@x\')');
call_hook($httpd, token_body(%meta, email => 'bad@x'), secrets => $SECRETS[0]);
postgres()->sql($DB => 'ALTER TABLE users RENAME TO gone');
call_hook($httpd, token_body(%meta), secrets => $SECRETS[0]);
postgres()->sql($DB => 'ALTER TABLE gone RENAME TO users');

spew($file, secret_of(30) . "\n");
$httpd->graceful;
is call_hook($httpd, $body, secrets => $SECRETS[0])->{status}, 401,
    'the old secret is not known any more';
is call_hook($httpd, $body, secrets => secret_of(30))->{status}, 200,
    'the new one is';

my %log = (
    'error log'  => slurp($httpd->error_log),
    'access log' => slurp($httpd->access_log),
    'terminal'   => $httpd->said,
);
like $log{'error log'}, qr/\[http:trace4\].*Webhook-Id/, 'it says all it can';
# what a client sends as its signature is a header, which httpd logs itself
s/^.*\[http:trace4\].*Webhook-Signature: .*\n//mg for values %log;
my %never = (meta => 'MetaNeverLogged', map { my ($base64) = /whsec_(.*)/;
    ("$base64" => $base64, "key $base64" => decode_base64($base64)) }
    @SECRETS, secret_of(30), $SECRET);
for my $where (sort keys %log) {
    is_deeply [grep { index($log{$where}, $never{$_}) >= 0 } sort keys %never],
        [], "nothing of them in: $where";
}

done_testing;
