package UserSync::Postgres;

# A PostgreSQL cluster of the suite. t/TEST starts one for the whole run and
# the tests attach to it; a test that needs another one starts its own:
#
#   my $pg = UserSync::Postgres->new->start;
#   $pg->createdb('app');
#   my ($row) = $pg->sql(app => 'SELECT * FROM users WHERE id = ?', $id);

use strict;
use warnings;

use DBI ();
use File::Glob qw(bsd_glob);
use File::Path ();
use File::Temp ();
use Scalar::Util qw(weaken);

use UserSync::Util qw(
    alive make_dir new_dir reserve_port run_command slurp spew top_dir
    wait_until
);

# Settings that suit a test suite, but not a benchmark or a test of durability.
my %SETTINGS = (
    fsync                    => 'off',
    full_page_writes         => 'off',
    max_connections          => 200,
    listen_addresses         => '127.0.0.1',
    shared_buffers           => '32MB',
    dynamic_shared_memory_type => 'mmap',
    # no WAL except that of the statements themselves
    autovacuum               => 'off',
    wal_level                => 'minimal',
    max_wal_senders          => 0,
    checkpoint_timeout       => '1h',
    logging_collector        => 'off',
    log_line_prefix          => '%m [%p] %u@%d ',
    lc_messages              => 'C',
    timezone                 => 'UTC',
);

my @clusters;

sub bin {
    my ($program) = @_;
    my ($dir) = $ENV{USERSYNC_PG_BIN} || reverse sort {
        ($a =~ m{/(\d+)/})[0] <=> ($b =~ m{/(\d+)/})[0]
    } glob '/usr/lib/postgresql/*/bin';
    die "no PostgreSQL server found\n" unless $dir;
    return "$dir/$program";
}

# dir, port, settings => {...}; on => a host of UserSync::Hosts, which others
# can then connect to
sub new {
    my ($class, %arg) = @_;
    my $on = $arg{on};
    my $self = bless {
        dir      => $arg{dir}  || new_dir('pg'),
        port     => $arg{port} || ($on ? $on->reserve_port : reserve_port()),
        on       => $on,
        settings => { %SETTINGS,
            $on ? (listen_addresses => $on->address) : (),
            %{ $arg{settings} || {} } },
        owner    => $$,
        stopped  => {},
        dbh      => {},
    }, $class;
    $self->{log} = $arg{log} || "$self->{dir}/postgresql.log";
    push @clusters, $self;
    weaken($clusters[-1]);
    return $self;
}

# A cluster that was started, and will be stopped, elsewhere.
sub attach {
    my ($class, $info) = @_;
    return bless { %$info, stopped => {}, dbh => {}, settings => {} }, $class;
}

sub info { return { map { $_ => $_[0]{$_} } qw(dir port log) } }
sub data { return "$_[0]{dir}/data" }
sub host { return $_[0]{dir} }
sub port { return $_[0]{port} }
sub log_file { return $_[0]{log} }

sub init {
    my ($self) = @_;
    make_dir($self->{dir});
    my ($status, $said) = run_command(
        bin('initdb'), '-D', $self->data, '-U', 'postgres', '-A', 'trust',
        '-E', 'UTF8', '--locale=C', '--no-sync', '--no-instructions'
    );
    die "initdb failed:\n$said" if $status;
    $self->_configure;
    my $hba = $self->data . '/pg_hba.conf';
    spew($hba, slurp($hba) . "host all,replication all 0.0.0.0/0 trust\n")
        if $self->{on};
    return $self;
}

sub _configure {
    my ($self) = @_;
    my %set = (
        %{ $self->{settings} },
        port                    => $self->{port},
        unix_socket_directories => "'$self->{dir}'",
    );
    my $conf = $self->data . '/postgresql.conf';
    spew($conf, slurp($conf) . join '', map {
        my $value = $set{$_};
        $value = "'$value'" unless $value =~ /^'/;
        "$_ = $value\n";
    } sort keys %set);
    return;
}

# Becomes a standby of that cluster, which has a host and wal_level replica, and
# starts; what it had before is gone.
sub follow {
    my ($self, $primary) = @_;
    $self->stop('immediate');
    File::Path::remove_tree($self->data);
    my ($status, $said) = run_command(bin('pg_basebackup'), '-D', $self->data,
        '-h', $primary->host, '-p', $primary->port, '-U', 'postgres',
        '-c', 'fast', '-X', 'stream', '-N');
    die "pg_basebackup failed:\n$said" if $status;
    $self->{settings}{primary_conninfo} = "'" . join(' ', "host="
        . $primary->{on}->address, "port=$primary->{port}", 'user=postgres',
        "application_name=$self->{on}{name}") . "'";
    $self->_configure;
    spew($self->data . '/standby.signal', '');
    return $self->start;
}

# Ends being a standby.
sub become_primary {
    my ($self) = @_;
    my ($status, $said) = $self->_pg_ctl('promote', '-w', '-t', 60);
    die "PostgreSQL is not promoted:\n$said" if $status;
    return $self;
}

sub start {
    my ($self) = @_;
    $self->init unless -e $self->data . '/PG_VERSION';
    return $self if $self->is_running;
    # after a crash: if nothing reaps orphans, a dead postmaster seems to be
    # alive
    unlink $self->data . '/postmaster.pid',
        "$self->{dir}/.s.PGSQL.$self->{port}.lock";
    my ($status, $said)
        = $self->_pg_ctl('start', '-w', '-t', 60, '-l', $self->{log});
    die "PostgreSQL does not start:\n$said" . (slurp($self->{log}) || '')
        if $status;
    return $self;
}

# smart, fast (default) or immediate
sub stop {
    my ($self, $mode) = @_;
    $self->cont;
    $self->_disconnect;
    return $self unless $self->is_running;
    my ($status, $said)
        = $self->_pg_ctl('stop', '-w', '-t', 60, '-m', $mode || 'fast');
    die "PostgreSQL does not stop:\n$said" if $status;
    return $self;
}

sub restart {
    my ($self, $mode) = @_;
    return $self->stop($mode)->start;
}

# Starts as a standby that is promoted at once: a new timeline begins.
sub promote {
    my ($self) = @_;
    $self->stop;
    spew($self->data . '/standby.signal', '');
    return $self->start->become_primary;
}

# As if the machine had lost power: nothing shuts down properly.
sub crash {
    my ($self) = @_;
    my $postmaster = $self->pid or return $self;
    # first, or a backend that it is forking would be missed
    $self->stop_postmaster;
    my @pids = ($postmaster, _children($postmaster));
    $self->_disconnect;
    kill 'KILL', @pids;
    wait_until { !grep { alive($_) } @pids } 10, 'the death of PostgreSQL';
    $self->{stopped} = {};
    return $self;
}

sub pid {
    my ($self) = @_;
    my ($pid) = (slurp($self->data . '/postmaster.pid') || '') =~ /^(\d+)/;
    return $pid && alive($pid) ? $pid : undef;
}

sub is_running { return defined $_[0]->pid }

# Stops backends, or the postmaster (then nobody can connect: a hung server).
sub stop_backend {
    my ($self, @pids) = @_;
    $self->{stopped}{$_} = 1 for @pids;
    kill 'STOP', @pids;
    wait_until {
        !grep { (slurp("/proc/$_/stat") || ') T') !~ /\) [TtZX]/ } @pids
    } 5, 'a stopped process';
    return $self;
}

sub stop_postmaster { return $_[0]->stop_backend($_[0]->pid) }

# Continues stopped processes, by default all of the cluster.
sub cont {
    my ($self, @pids) = @_;
    if (!@pids) {
        my $postmaster = $self->pid;
        @pids = (keys %{ $self->{stopped} },
            $postmaster ? ($postmaster, _children($postmaster)) : ());
    }
    delete @{ $self->{stopped} }{@pids};
    kill 'CONT', @pids if @pids;
    return $self;
}

# Pids of the backends that serve a database, without the suite's own.
sub backends {
    my ($self, $db) = @_;
    return map { $_->{pid} } $self->sql(postgres => <<'SQL', $db);
SELECT pid FROM pg_stat_activity
 WHERE datname = ? AND backend_type = 'client backend'
   AND usename <> 'postgres' ORDER BY pid
SQL
}

# Ends these backends, or all of a database; returns when they have ended.
sub terminate_backends {
    my ($self, $db, @pids) = @_;
    @pids = $self->backends($db) unless @pids;
    $self->sql(postgres => 'SELECT pg_terminate_backend(?)', $_) for @pids;
    wait_until { !grep { alive($_) } @pids } 10, 'the end of the backends';
    return scalar @pids;
}

# A connection string for libpq, as DBDParams accepts it.
sub dsn {
    my ($self, $db, %arg) = @_;
    my %param = (
        host            => $self->host,
        port            => $self->port,
        dbname          => $db || 'app',
        user            => 'www-data',
        connect_timeout => 2,
        %arg,
    );
    return join ' ', map {
        my $value = $param{$_};
        $value =~ s/(['\\])/\\$1/g;
        $value =~ /[\s'\\]/ || $value eq '' ? "$_='$value'" : "$_=$value";
    } grep { defined $param{$_} } sort keys %param;
}

sub dsn_tcp {
    my ($self, $db, %arg) = @_;
    my $host = $self->{on} ? $self->{on}->address : '127.0.0.1';
    return $self->dsn($db, host => $host, %arg);
}

# A superuser's connection, kept for as long as it works.
sub dbh {
    my ($self, $db) = @_;
    my $dbh = $self->{dbh}{"$$ $db"};
    return $dbh if $dbh && $dbh->{Active} && $dbh->ping > 0;
    return $self->{dbh}{"$$ $db"} = $self->connect($db);
}

# A separate connection, for a test that holds a transaction open.
sub connect {
    my ($self, $db, $user) = @_;
    $user ||= 'postgres';
    return DBI->connect(
        "dbi:Pg:dbname=$db;host=$self->{dir};port=$self->{port}",
        $user, '', {
            AutoCommit => 1, RaiseError => 1, PrintError => 0, PrintWarn => 0,
            AutoInactiveDestroy => 1, pg_enable_utf8 => 1,
            pg_server_prepare => 0,
        });
}

# Rows as hashes; for a statement without a result, the number of rows.
sub sql {
    my ($self, $db, $sql, @bind) = @_;
    my $sth = $self->dbh($db)->prepare($sql);
    my $rows = $sth->execute(@bind);
    return $rows + 0 unless $sth->{NUM_OF_FIELDS};
    return @{ $sth->fetchall_arrayref({}) };
}

# The first column of the first row.
sub value {
    my ($self, $db, $sql, @bind) = @_;
    return scalar $self->dbh($db)->selectrow_array($sql, undef, @bind);
}

# (exit status, output) of psql reading $sql
sub psql {
    my ($self, $db, $sql, @option) = @_;
    my $file = File::Temp->new;
    print {$file} $sql;
    $file->flush;
    return run_command(bin('psql'), '-X', '-q', '-A', '-t', '-v',
        'ON_ERROR_STOP=1', '-h', $self->{dir}, '-p', $self->{port}, '-U',
        'postgres', '-d', $db, @option, '-f', "$file");
}

# A database with the project's schema, including grants.
sub createdb {
    my ($self, $db) = @_;
    my $template = 'usersync_template';
    if (!$self->value(postgres =>
            'SELECT 1 FROM pg_database WHERE datname = ?', $template)) {
        $self->sql(postgres => "CREATE DATABASE $template");
        $self->apply_schema($template);
        $self->_disconnect;
    }
    my $name = $self->dbh('postgres')->quote_identifier($db);
    $self->sql(postgres => "CREATE DATABASE $name TEMPLATE $template");
    # grants.sql sets these with the role, only for the database it ran in
    $self->sql(postgres => qq{ALTER ROLE "www-data" IN DATABASE $name SET $_})
        for q{statement_timeout = '2500ms'}, q{lock_timeout = '2s'};
    return $self;
}

sub dropdb {
    my ($self, $db) = @_;
    delete $self->{dbh}{"$$ $db"};
    my $name = $self->dbh('postgres')->quote_identifier($db);
    $self->sql(postgres => "DROP DATABASE IF EXISTS $name WITH (FORCE)");
    return $self;
}

# Applies the migrations and the grants as shipped.
sub apply_schema {
    my ($self, $db) = @_;
    my $dir = top_dir() . '/sql';
    for my $file (bsd_glob("$dir/[0-9]*.sql"), "$dir/grants.sql") {
        my ($status, $said) = run_command(
            bin('psql'), '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-h',
            $self->{dir}, '-p', $self->{port}, '-U', 'postgres', '-d', $db,
            '-f', $file
        );
        die "$file:\n$said" if $status;
    }
    return $self;
}

# Empty application tables and a server that answers, whatever the last test
# left behind.
sub reset {
    my ($self) = @_;
    $self->cont;
    $self->start;
    my @dbs = map { $_->{datname} } $self->sql(postgres => <<'SQL');
SELECT datname FROM pg_database
 WHERE NOT datistemplate AND datname NOT IN ('postgres', 'usersync_template')
SQL
    for my $db (@dbs) {
        my @tables = map { $_->{name} } $self->sql($db => <<'SQL');
SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
 WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
SQL
        $self->sql($db => 'TRUNCATE ' . join ', ', @tables) if @tables;
    }
    return $self;
}

sub wal_lsn {
    my ($self) = @_;
    return $self->value(postgres => 'SELECT pg_current_wal_insert_lsn()');
}

# Bytes of WAL written since.
sub wal_since {
    my ($self, $lsn) = @_;
    return $self->value(
        postgres => 'SELECT pg_current_wal_insert_lsn() - ?::pg_lsn', $lsn);
}

sub _pg_ctl {
    my ($self, @arg) = @_;
    # a server that a test restarts outlives the test
    my @command = (bin('pg_ctl'), '-D', $self->data, '-s', @arg);
    @command = $self->{on}->command(@command) if $self->{on};
    return run_command({ LC_ALL => 'C', USERSYNC_TEST => '' }, @command);
}

sub _disconnect {
    my ($self) = @_;
    for my $key (keys %{ $self->{dbh} }) {
        my $dbh = delete $self->{dbh}{$key};
        eval { $dbh->disconnect } if $key =~ /^$$ /;
    }
    return;
}

sub _children {
    my ($parent) = @_;
    opendir my $proc, '/proc' or return;
    return grep {
        (slurp("/proc/$_/stat") || '') =~ /\) \w (\d+)/ && $1 == $parent
    } grep {/^\d+$/} readdir $proc;
}

sub DESTROY {
    my ($self) = @_;
    return unless ($self->{owner} || 0) == $$;
    local ($@, $?, $!);
    eval { $self->stop('immediate') };
    return;
}

END {
    $_->DESTROY for grep {$_} @clusters;
}

1;
