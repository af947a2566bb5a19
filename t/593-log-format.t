# conf/usersync-log.conf: one line for each request that the module had a part
# in, whose pairs a logfmt reader understands whatever clients send, and no
# secret in it.

use UserSync::Gate;
use UserSync::Outage;
use UserSync::Test;
use UserSync::Util qw(top_dir);

my $dir = UserSync::Util::new_dir('log');
my $pg = own_postgres();
my $conf = top_dir() . '/conf/usersync-log.conf';
my $httpd = outage_lines(own_httpd($pg, env => { APACHE_LOG_DIR => $dir },
    config => qq{Include "$conf"\nLogLevel usersync:info\n}))->start;

# What logfmt is: pairs, whose values are bare or in quotes with \ before " and
# \. Returns {name => value}, or nothing if it is something else.
sub pairs_of {
    my ($line) = @_;
    my %pair;
    while ($line =~ /\G(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?:[ ]|\z)/gc) {
        $pair{$1} = defined $2 ? $2 : $3;
    }
    return (pos($line) || 0) == length $line ? \%pair : undef;
}

# The lines of a log since the last call.
my $read = 0;

sub new_lines {
    my ($count) = @_;
    my @lines;
    wait_until {
        @lines = split /\n/, slurp("$dir/usersync.log", $read) || '';
        @lines >= $count;
    } 10, "$count lines";
    $read = -s "$dir/usersync.log";
    return @lines;
}

my ($ada) = people(1);
my $in = login($httpd, $ada);
is $in->{status}, 200, 'a login';
my ($line) = new_lines(1);
my $pair = pairs_of($line) or diag $line;
is_deeply [@$pair{qw(client method path status outcome user report)}],
    ['127.0.0.1', 'POST', '/auth/login', 200, 'ok', $in->{json}{user_id}, '-'],
    'its pairs';
like $pair->{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}$/, 'time';
like $pair->{$_}, qr/^\d+$/, $_ for qw(usec supabase table);
is $pair->{id}, $in->{headers}{'x-request-id'}, 'id';

get($httpd->url('/open'));
login($httpd, { %$ada, password => 'wrong' });
post($httpd->url('/auth/login?token=secret-of-a-link'), '{');
post($httpd->url('/auth/login/%22%20outcome=ok%0Aoutcome=ok%5C'), '{');
my @lines = new_lines(3);
is scalar @lines, 3, 'a request of others has none';
my @pairs = map { pairs_of($_) || {} } @lines;
is_deeply [map { $_->{outcome} } @pairs],
    [qw(invalid_credentials invalid_request not_found)], 'what was refused'
    or diag explain \@lines;
is $pairs[2]{path}, '/auth/login/\" outcome=ok\noutcome=ok\\\\',
    'what clients send stays in its quotes';
is_deeply [grep { !$_->{id} || $_->{id} eq '-' } @pairs], [],
    'each has its line in the error log';

my $all = slurp("$dir/usersync.log");
my $session = $in->{json}{session};
for my $secret ($ada->{password}, $ada->{email}, double->key,
        $session->{access_token}, $session->{refresh_token},
        'secret-of-a-link') {
    unlike $all, qr/\Q$secret\E/, 'no secret';
}

done_testing;
