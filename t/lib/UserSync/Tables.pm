package UserSync::Tables;

# What the tests of the users table share: private databases, servers and
# users, and checks.
#
#   use UserSync::Test;
#   use UserSync::Tables;

use strict;
use warnings;

use Exporter qw(import);
use Test::More ();

use UserSync::Log ();
use UserSync::Test qw(double module_config post postgres show);
use UserSync::Util qw(slurp);

our @EXPORT = qw(
    body_has_token drop_at_end dsn_of encoded_db log_in no_values_ok one_line
    our_lines outcomes person refused_ok rows_in scratch_db server sign_up
    statements waiting_in
);

my @databases;
my $people = 0;

# ---- databases

# Creates an empty database of that name with the project's schema, dropped
# when the test ends; then runs the statements, as its owner. Returns the name.
sub scratch_db {
    my ($name, @sql) = @_;
    drop_at_end($name);
    postgres()->createdb($name);
    postgres()->sql($name => $_) for @sql;
    return $name;
}

# The same in another encoding than UTF-8.
sub encoded_db {
    my ($name, $encoding, @sql) = @_;
    drop_at_end($name);
    postgres()->sql(postgres => "CREATE DATABASE $name TEMPLATE template0 "
        . "ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
    postgres()->apply_schema($name);
    postgres()->sql($name => $_) for @sql;
    return $name;
}

# A database of that name must not exist, neither now nor after the test.
sub drop_at_end {
    my ($name) = @_;
    postgres()->dropdb($name);
    push @databases, $name;
    return $name;
}

# The value of DBDParams for a database, quoted; parameters as for dsn.
sub dsn_of { return '"' . postgres()->dsn(@_) . '"' }

sub rows_in {
    my ($db, $table) = @_;
    return postgres()->value($db => "SELECT count(*) FROM $table");
}

# How many of the module's backends wait for a lock in that database.
sub waiting_in {
    my ($db) = @_;
    return postgres()->value(postgres => <<'SQL', $db);
SELECT count(*) FROM pg_stat_activity WHERE datname = ?
   AND usename = 'www-data' AND wait_event_type = 'Lock'
SQL
}

# The statements that a database's clients send during the block, one string
# each. The database logs all statements from then on, for new connections.
sub statements {
    my ($db, $code) = @_;
    my $file = postgres()->log_file;
    my $mark = -s $file || 0;
    $code->();
    return map {
        / www-data\@\Q$db\E LOG:  (?:statement|execute [^:]+): (.*)/ ? $1 : ()
    } split /\n/, slurp($file, $mark);
}

# ---- servers

# A private httpd with one child, so that each line about a cause comes once;
# its main server and the vhosts (name => lines) use that database. Other lines
# are set as for module_config.
sub server {
    my ($db, $vhosts, %set) = @_;
    return UserSync::Httpd->new(
        children => 1,
        vhosts   => $vhosts || {},
        config   => module_config(DBDParams => dsn_of($db), %set),
    );
}

# ---- users

# A user whom Supabase has and the table has not: the user object and the
# password. Arguments as for add_user; double => another project.
sub person {
    my (%arg) = @_;
    my $project = delete $arg{double} || double();
    $people++;
    $arg{email} = "person$people\@people.example" unless exists $arg{email};
    my $password = "the password of $people";
    return { %{ $project->add_user(password => $password, %arg) },
        password => $password };
}

sub log_in {
    my ($httpd, $person, $vhost) = @_;
    return post($httpd->url('/auth/login', $vhost),
        { map { $_ => $person->{$_} } qw(email password) });
}

# A sign-up of an address, by default a new one.
sub sign_up {
    my ($httpd, $vhost, %arg) = @_;
    $people++;
    return post($httpd->url('/auth/register', $vhost), {
        email => "person$people\@people.example",
        password => "the password of $people", %arg });
}

# ---- checks

sub body_has_token {
    my ($response) = @_;
    return $response->{body}
        =~ /access_token|refresh_token|"session"|eyJ[\w-]+\./ ? 1 : 0;
}

# An error reply with this status and code, and without a token.
sub refused_ok {
    my ($response, $status, $code, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $json = ref $response->{json} eq 'HASH' ? $response->{json} : {};
    return Test::More::is_deeply(
        { status => $response->{status}, code => $json->{code},
            token => body_has_token($response),
            type => $response->{headers}{'content-type'} },
        { status => $status, code => $code, token => 0,
            type => 'application/problem+json' },
        $name) || Test::More::diag(show($response));
}

# The module's own lines at warn and worse since a mark.
sub our_lines {
    my ($httpd, $mark) = @_;
    return map { $_->{text} } grep {
        $_ && $_->{module} eq 'usersync'
            && $_->{level} =~ /^(?:warn|error|crit)$/
    } map { UserSync::Log::parse($_) } $httpd->log_since($mark);
}

# Since the mark the module has written exactly one line, which matches.
sub one_line {
    my ($httpd, $mark, $what, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @lines = our_lines($httpd, $mark);
    my $ok = Test::More::ok(@lines == 1 && $lines[0] =~ $what, $name)
        || Test::More::diag("wanted: $what", map {"\ngot:    $_"} @lines);
    # checked here, whatever it was
    $httpd->allow_log(qr/\Q$_\E/) for @lines;
    return $ok;
}

# usersync-outcome of the last requests, from the access log.
sub outcomes {
    my ($httpd, $n) = @_;
    my @all = (slurp($httpd->access_log) || '') =~ /outcome=(\S+)/g;
    return @all[-$n .. -1];
}

# The log has no row values that PostgreSQL quotes, and above debug no address
# or other value either.
sub no_values_ok {
    my ($httpd, @values) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $values = join '|', 'people\.example', map {quotemeta} @values;
    my @lines = $httpd->log_since(0);
    my @quoting = grep {
        /DETAIL|CONTEXT|Failing row|Key \(|already exists\.|PL\/pgSQL function/
    } @lines;
    my @naming = grep {
        my $line = UserSync::Log::parse($_);
        /$values/ && (!$line || $line->{level} !~ /^(?:debug|trace\d)$/)
    } @lines;
    return Test::More::ok(@lines && !@quoting && !@naming,
        'no values of rows in the log')
        || Test::More::diag(join "\n", @quoting, @naming);
}

END {
    my $status = $?;
    eval { postgres()->dropdb($_); 1 } or warn $@ for @databases;
    $? = $status;
}

1;
