# Neither the value of UserSyncEventHeader nor what is in an event is ever
# logged; a graceful restart uses the value that is in the file then.

use UserSync::Event;
use UserSync::Gate;
use UserSync::Hook;
use UserSync::Tables;
use UserSync::Test;

my $DB = event_db('usersync_event_secrets');
my @VALUES = map {"ValueNeverLogged$_" . 'x' x 20} 'A' .. 'D';
my $file = spew("$ENV{USERSYNC_RUN}/event.$$.key", "$VALUES[0]\n");
chmod 0600, $file;
my $headers = "$ENV{USERSYNC_RUN}/headers.$$.log";

my $httpd = event_server($DB, children => 1, config => <<"CONF")->start;
LogLevel trace8
UserSyncEventHeader $HEADER file:$file
LogFormat "%{$HEADER}i %{Content-Type}i" header
CustomLog "$headers" header
CONF
$httpd->allow_log(qr/:(?:warn|error)\]/);

my %meta = (raw_user_meta_data => { name => 'DataNeverLogged' },
    raw_app_meta_data => { role => 'DataNeverLogged' },
    phone => 'DataNeverLogged', encrypted_password => 'DataNeverLogged',
    confirmation_token => 'DataNeverLogged');

sub send_stock {
    my ($value, $body) = @_;
    return send_event($httpd, $body || stock_body(%meta), unsigned => 1,
        headers => { $HEADER => $value });
}

is send_stock($VALUES[0])->{status}, 204, 'the value is known';
is send_stock($_)->{status}, 401, 'another is not' for @VALUES[1 .. 3];
send_stock($VALUES[0], $_) for '{', '{}', stock_body(%meta) . 'x',
    stock_body(%meta, table => 'DataNeverLogged'x9),
    stock_body(%meta, id => 'DataNeverLogged'),
    stock_body(%meta, banned_until => 'DataNeverLogged'),
    stock_body(%meta, type => 'Data Never Logged: DataNeverLogged');
send_event($httpd, { user_metadata => { a => 'DataNeverLogged' } },
    headers => { $HEADER => $VALUES[0] });
send_event($httpd, { email => 'DataNeverLogged' }, secrets => secret_of(30));
request(GET => $httpd->url('/event'), undef, $HEADER => $VALUES[0]);
post($httpd->url('/event/below'), '{}', $HEADER => $VALUES[0]);
post($httpd->url('/event'), '{}', $HEADER => $VALUES[0],
    'Content-Type' => 'text/plain');
postgres()->sql($DB =>
    q{ALTER TABLE users ADD CHECK (phone IS NULL) NOT VALID});
is send_stock($VALUES[0])->{status}, 204, 'a value that is refused';
postgres()->sql($DB => 'ALTER TABLE users RENAME TO gone');
send_stock($VALUES[0]);
postgres()->sql($DB => 'ALTER TABLE gone RENAME TO users');

spew($file, "$VALUES[3]\n");
$httpd->graceful;
is send_stock($VALUES[0])->{status}, 401,
    'the old value is not known any more';
is send_stock($VALUES[3], stock_body())->{status}, 204, 'the new one is';

my %log = (
    'error log'  => slurp($httpd->error_log),
    'access log' => slurp($httpd->access_log),
    'own log'    => slurp($headers),
    'terminal'   => $httpd->said,
);
like $log{'error log'}, qr/\[http:trace4\].*\Q$HEADER\E/,
    'it says all it can';
like $log{'own log'}, qr{^- application/json$}m,
    'a log format does not find the header';
# what a client sends is a header, which httpd logs itself
s/^.*\[http:trace4\].*\Q$HEADER\E: .*\n//mg for values %log;
for my $where (sort keys %log) {
    is_deeply [$log{$where} =~ /(\w*NeverLogged\w*)/g], [],
        "nothing of them in: $where";
}

done_testing;
