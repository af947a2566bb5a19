package UserSync::Gate;

# What the tests of the gate share: servers that authenticate anybody by name,
# and requests of such users.
#
#   use UserSync::Test;
#   use UserSync::Gate;
#
#   my $httpd = gate_server('app', guarded('/app', 'UserSyncEnsure On'))->start;
#   visit_ok visit($httpd, '/app', my $id = new_id());

use strict;
use warnings;

use Exporter qw(import);
use MIME::Base64 ();
use Test::More ();

use UserSync::Httpd ();
use UserSync::Tables qw(dsn_of scratch_db statements);
use UserSync::Test qw(get postgres show);
use UserSync::Util qw(slurp spew);

our @EXPORT = qw(
    as_user database gate_notes gate_server guarded has_row logged_db new_id
    problem_ok sql_of visit visit_ok
);

my $ids = 0;
my $db; # of the last server

# ---- servers

# mod_dbd's lines for a database, or for a value of DBDParams.
sub database {
    my ($db) = @_;
    my $params = $db =~ /=/ ? qq{"$db"} : dsn_of($db);
    return "DBDriver pgsql\nDBDParams $params\nDBDMin 0\nDBDKeep 4\n"
        . "DBDMax 10\n";
}

# A scratch database that logs all statements; for sql_of.
sub logged_db {
    my ($name, @sql) = @_;
    scratch_db($name, @sql);
    postgres()->sql(postgres =>
        qq{ALTER DATABASE $name SET log_statement = 'all'});
    return $name;
}

# The statements of the module on the table during the block, in such a
# database: "SELECT" and "INSERT", in order. Looks at the catalog are left out.
sub sql_of {
    my ($db, $code) = @_;
    return [map { /^(\w+)/ } grep { !/pg_catalog[.]pg_(?:class|attribute|control)/ }
        statements($db, $code)];
}

# A private httpd with that database (which has_row and visit_ok use from then
# on) and these lines; further arguments as for UserSync::Httpd->new. It has
# /open, /app/, /app/file and /app/other.
sub gate_server {
    my ($of, $config, %arg) = @_;
    $db = $of;
    my $httpd = UserSync::Httpd->new(%arg,
        modules => ['authn_anon', @{ $arg{modules} || [] }],
        config  => database($of) . $config);
    my $root = $httpd->dir . '/htdocs';
    mkdir "$root/app";
    spew("$root/$_", "$_\n") for qw(open app/index.html app/file app/other);
    return $httpd;
}

# The database that has_row and visit_ok look at from now on.
sub has_rows_in { $db = shift; return }

# A <Location> that admits anybody under the name that they give, with these
# lines. Response headers named Env-... show the environment.
sub guarded {
    my ($path, @lines) = @_;
    return join "\n", qq{<Location "$path">}, <<'CONF' . join("\n", @lines),
    AuthType Basic
    AuthName app
    AuthBasicProvider anon
    Anonymous *
    Require valid-user
    Header set Env-Id "expr=%{reqenv:USERSYNC_USER_ID}"
    Header set Env-Email "expr=%{reqenv:USERSYNC_USER_EMAIL}"
    Header set Env-Outcome "expr=%{reqenv:USERSYNC_OUTCOME}"
CONF
        "</Location>\n";
}

# ---- users and requests

# The id of a user who was never here.
sub new_id {
    return sprintf '%08x-%04x-4000-8000-%012x', $$, $ids >> 16, ++$ids;
}

# The headers of a request by this user.
sub as_user {
    my ($name) = @_;
    return (Authorization =>
        'Basic ' . MIME::Base64::encode("$name:guest\@example.com", ''));
}

# GET by a user (undef: none); path may be a URL.
sub visit {
    my ($httpd, $path, $user, %header) = @_;
    return get($path =~ /^http/ ? $path : $httpd->url($path),
        defined $user ? as_user($user) : (), %header);
}

# In the database of the last server, or another.
sub has_row {
    my ($id, $other) = @_;
    return postgres()->value($other || $db,
        'SELECT count(*) FROM users WHERE id::text = ?', $id);
}

# ---- checks

# Let through, with a row.
sub visit_ok {
    my ($response, $id, $name, $other) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::is_deeply(
        [$response->{status}, has_row($id, $other)], [200, 1],
        $name || 'passes')
        || Test::More::diag(show($response));
}

# Refused with problem details of this code; nothing of the file is shown.
sub problem_ok {
    my ($response, $status, $code, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $json = ref $response->{json} eq 'HASH' ? $response->{json} : {};
    my $header = $response->{headers};
    return Test::More::is_deeply(
        [$response->{status}, @$json{qw(code status)},
            @$header{qw(content-type cache-control x-request-id)},
            $header->{'retry-after'} ? 'wait' : 'final'],
        [$status, $code, $status, 'application/problem+json', 'no-store',
            $json->{request_id} || 'an id',
            $status == 503 ? 'wait' : 'final'],
        $name || "$status $code") || Test::More::diag(show($response));
}

# [outcome, user, whether there was SQL] of the last request in the access log.
sub gate_notes {
    my ($httpd) = @_;
    my ($outcome, $user, $store) = (slurp($httpd->access_log) || '')
        =~ /outcome=(\S+) user=(\S+) upstream=\S+ store=(\S+)\n\z/;
    return [$outcome, $user, !defined $store || $store eq '-' ? 'no SQL' : 'SQL'];
}

1;
