# The server keeps what docs/openapi.yaml says for requests that nobody has
# thought of: schemathesis makes them from the description, good and bad ones,
# and judges the answers. t/openapi/schemathesis.toml says how.

use UserSync::Contract;
use UserSync::Event;
use UserSync::Hook;
use UserSync::OpenAPI;
use UserSync::Tables qw(dsn_of);
use UserSync::Test;
use UserSync::Util qw(read_json top_dir);

needs_tools();

double->config(autoconfirm => JSON::PP::true, weak_password_min => 1);
my $secret = spew("$ENV{USERSYNC_RUN}/openapi.secret", "$SECRET\n");
chmod 0600, $secret;
my $httpd = UserSync::Httpd->new(config => module_config(
        DBDParams => dsn_of(event_db('openapi_generated'))) . $LIFE_LINES
    . "UserSyncHookSecret file:$secret\n" . hook_lines('/hooks/supabase')
    . event_lines('/events/supabase'))->start;
$httpd->allow_log(upstream_lines());
$httpd->allow_log(qr/usersync-(?:hook|event): |US0\d\d/);
my $who = credentials();
double->add_user(%$who);

my $url = $httpd->url('');
my $dir = UserSync::Util::new_dir('schemathesis');
my $cases = top_dir() . '/t/openapi/cases.py';
my %env = (USERSYNC_URL => $url, USERSYNC_EMAIL => $who->{email},
    USERSYNC_PASSWORD => $who->{password}, USERSYNC_SECRET => $SECRET,
    USERSYNC_CASES => $cases, USERSYNC_TALLY => "$dir/tally",
    HOME => $dir, COLUMNS => 100);

# (exit status, output) of schemathesis with a description; more arguments
sub schemathesis {
    my ($file, @arg) = @_;
    return python(\%env, '-c', 'from schemathesis.cli import schemathesis; '
        . 'schemathesis()', '--config-file',
        top_dir() . '/t/openapi/schemathesis.toml', 'run', $file, '--url',
        $url, '--generation-database', 'none', '--no-color', @arg);
}

my ($status, $said) = schemathesis(schema_file());
is $status, 0, 'schemathesis finds nothing' or diag $said;
like $said, qr/Tested: 12\b/, 'in all operations';

# Enough of each kind has come to something.
my $tally = read_json("$dir/tally") || {};
my %least = (
    'register good 200' => 5, 'login good 200' => 10, 'login good 401' => 5,
    'refresh good 200' => 10, 'refresh good 401' => 2,
    'logout good 204' => 10,
    (map { ("$_ bad 400" => 15, "$_ bad 405" => 5, "$_ bad 415" => 1) }
            qw(register login refresh logout)),
    # its body may be left out, so that less is wrong with it
    'logout bad 400' => 10,
);
for my $kind (sort keys %least) {
    cmp_ok $tally->{"/auth/$kind"} || 0, '>=', $least{$kind}, $kind
        or diag explain $tally;
}
cmp_ok $tally->{'/hooks/supabase good 200'} || 0, '>=', 10, 'signed hooks';
cmp_ok $tally->{'/events/supabase good 204'} || 0, '>=', 5, 'signed events';

# It would see a status that is not described, a member that is missing, and a
# header that is another.
my $text = slurp(schema_file());
my $wrong = $text =~ s/^ +'204': .*LoggedOut.*\n//mr
    =~ s/required: \[type, title/$&, instance/r =~ s/const: nosniff/const: x/r;
($status, $said) = schemathesis(spew("$dir/wrong.yaml", $wrong),
    '--phases', 'examples', '--include-path-regex', '/auth/(refresh|logout)');
is $status, 1, 'a description that is wrong is found';
like $said, $_, 'and named'
    for qr/Undocumented status code/, qr/Response violates schema/,
    qr/Response header does not conform/;

done_testing;
