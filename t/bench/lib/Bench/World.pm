package Bench::World;

# What all contenders share: the upstream, and a PostgreSQL cluster with the
# databases "app" (1 000 000 rows in users) and "small" (1 000).

use strict;
use warnings;

use UserSync::HTTP ();
use UserSync::Postgres ();
use UserSync::Util qw(
    make_dir reserve_port run_command spew top_dir wait_until
);

use Bench::Process ();

# Like a server that is not tuned for a benchmark: fsync and autovacuum are on,
# as by default; the table fits into the buffers. All contenders run at the
# same time and must not take each other's connections.
my %SETTINGS = (
    fsync              => 'on',
    full_page_writes   => 'on',
    autovacuum         => 'on',
    wal_level          => 'replica',
    checkpoint_timeout => '5min',
    shared_buffers     => '256MB',
    max_wal_size       => '2GB',
    max_connections    => 300,
    # counts nothing before count_statements
    shared_preload_libraries   => 'pg_stat_statements',
    'pg_stat_statements.track' => 'none',
    'pg_stat_statements.save'  => 'off',
);

my %ROWS = (app => 1_000_000, small => 1_000);
my $KEY  = 'sb_publishable_' . 'b' x 31;

# The address of user number $n, as load.lua makes it; md5 of it is the id.
my $EMAIL = q{'bench-' || lpad(n::text, 9, '0') || '@example.com'};
sub email { return sprintf 'bench-%09d@example.com', $_[0] }

sub new {
    my ($class, $dir) = @_;
    return bless { dir => $dir, fresh => 10_000_000 }, $class;
}

sub dir  { return $_[0]{dir} }
sub pg   { return $_[0]{pg} }
sub key  { return $KEY }
sub rows { return $ROWS{ $_[1] } }

# A million addresses that no run has used; the databases do not grow by this.
sub fresh_block {
    my ($self) = @_;
    $self->{fresh} += 1_000_000;
    die "out of new addresses\n" if $self->{fresh} > 998_000_000;
    return $self->{fresh};
}

# ---- PostgreSQL

sub start_postgres {
    my ($self) = @_;
    my $pg = $self->{pg} = UserSync::Postgres->new(
        dir => "$self->{dir}/pg", settings => \%SETTINGS)->start;
    $pg->sql(postgres => 'CREATE EXTENSION pg_stat_statements');
    for my $db (sort keys %ROWS) {
        $pg->createdb($db);
        $self->refill($db);
    }
    return $self;
}

# The rows of the known users and no others.
sub refill {
    my ($self, $db) = @_;
    my $last = $ROWS{$db} - 1;
    $self->{pg}->sql($db => 'TRUNCATE users CASCADE');
    $self->{pg}->sql($db => <<"SQL");
INSERT INTO users (id, email)
SELECT md5(e)::uuid, e
  FROM (SELECT $EMAIL FROM generate_series(0, $last) AS n) AS known (e)
 ORDER BY 1
SQL
    $self->{pg}->sql($db => 'VACUUM (ANALYZE) users');
    $self->{pg}->sql($db => 'CHECKPOINT');
    return;
}

# Columns for the life of a user, which the web server may write.
sub add_life {
    my ($self, $db) = @_;
    for my $name (qw(updated_at banned_until)) {
        $self->{pg}->sql($db =>
            "ALTER TABLE users ADD COLUMN IF NOT EXISTS $name timestamptz");
        $self->{pg}->sql($db => "GRANT SELECT ($name), INSERT ($name),"
            . qq{ UPDATE ($name) ON users TO "www-data"});
    }
    return;
}

# All users of this database, until it is filled again.
sub ban {
    my ($self, $db) = @_;
    $self->{pg}->sql($db => q{UPDATE users SET banned_until = 'infinity'});
    return;
}

sub count_rows {
    my ($self, $db) = @_;
    return $self->{pg}->value($db => 'SELECT count(*) FROM users');
}

# From now on, or not any more.
sub count_statements {
    my ($self, $on) = @_;
    my $what = $on ? 'all' : 'none';
    $self->{pg}->sql(postgres =>
        "ALTER SYSTEM SET pg_stat_statements.track = '$what'");
    $self->{pg}->sql(postgres => 'SELECT pg_reload_conf()');
    return;
}

# { statement => how often } of all contenders in this database, so far.
sub statements {
    my ($self, $db) = @_;
    return { map { $_->{query} => $_->{calls} } $self->{pg}->sql(
        postgres => <<'SQL', $db) };
SELECT query, sum(calls) AS calls
  FROM pg_stat_statements
  JOIN pg_database AS d ON d.oid = dbid
  JOIN pg_roles AS r ON r.oid = userid
 WHERE datname = ? AND rolname = 'www-data' GROUP BY query
SQL
}

sub id_of {
    my ($self, $email) = @_;
    return $self->{pg}->value(postgres => 'SELECT md5(?)::uuid', $email);
}

# ---- the upstream

sub start_upstream {
    my ($self) = @_;
    my $dir = make_dir("$self->{dir}/upstream");
    my ($status, $said) = run_command(
        qw(openssl req -x509 -newkey ec -pkeyopt
            ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1),
        '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', "$dir/key.pem",
        '-out', "$dir/certificate.pem");
    die "openssl: $said" if $status;
    $self->{port}{$_} = reserve_port() for qw(plain tls control);
    my $fixtures = top_dir() . '/t/fixtures/supabase';
    $self->{upstream} = Bench::Process->start(
        command => [top_dir() . '/build/bench/upstream',
            @{ $self->{port} }{qw(plain tls control)},
            "$fixtures/token_password_session.json",
            "$fixtures/signup_autoconfirm_session.json",
            "$fixtures/settings.json",
            "$dir/certificate.pem", "$dir/key.pem"],
        log => "$dir/log");
    wait_until {
        $self->{upstream}->is_running
            or die "the upstream ended:\n" . $self->{upstream}->said;
        eval { $self->stats };
    } 10, 'the upstream';
    spew("$self->{dir}/publishable.key", "$KEY\n");
    chmod 0600, "$self->{dir}/publishable.key";
    return $self;
}

sub url     { return "http://127.0.0.1:$_[0]{port}{plain}" }
sub tls_url { return "https://127.0.0.1:$_[0]{port}{tls}" }
sub ca_file { return "$_[0]{dir}/upstream/certificate.pem" }

sub _control {
    my ($self, $path) = @_;
    my $answer = UserSync::HTTP->exchange(GET =>
        "http://127.0.0.1:$self->{port}{control}$path");
    die "the upstream does not answer: $answer->{error}\n"
        unless $answer->{json};
    return $answer->{json};
}

# { plain, tls: connections accepted, open, requests, waiting, delay, hang }
sub stats { return $_[0]->_control('/stats') }
sub delay { return $_[0]->_control("/set/delay/$_[1]") }
sub hang  { return $_[0]->_control("/set/hang/$_[1]") }

sub stop {
    my ($self) = @_;
    $self->{upstream}->stop if $self->{upstream};
    $self->{pg}->stop if $self->{pg};
    return;
}

1;
