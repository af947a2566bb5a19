package UserSync::Run;

# Apache::Test with the servers around mod_usersync: a PostgreSQL cluster, the
# double of Supabase Auth, and httpd. t/TEST -mpm event|worker|prefork; the
# other options are Apache::TestRun's.

use strict;
use warnings;

use parent 'Apache::TestRun';

use File::Temp ();

use UserSync::Config ();
use UserSync::Double ();
use UserSync::Guardian ();
use UserSync::Httpd ();
use UserSync::Log ();
use UserSync::Postgres ();
use UserSync::Suite ();
use UserSync::Util qw(
    make_dir read_json reserve_port run_command slurp spew top_dir write_json
);

my $self_of_run;
my $main_pid = $$;

sub getopts {
    my ($self, $argv) = @_;
    my @rest;
    $self->{mpm} = $ENV{USERSYNC_MPM} || 'event';
    while (@$argv) {
        my $arg = shift @$argv;
        if ($arg =~ /^--?mpm(?:=(.*))?$/) {
            $self->{mpm} = defined $1 ? $1 : shift @$argv;
            next;
        }
        push @rest, $arg;
    }
    die "no such MPM: $self->{mpm}\n"
        unless $self->{mpm} =~ /^(?:event|worker|prefork)$/;
    $self->SUPER::getopts(\@rest);
    return;
}

# The directory of the run, and where Apache::Test finds its files.
sub pre_configure {
    my ($self) = @_;
    $self_of_run = $self;
    $SIG{TERM} = $SIG{HUP} = sub { exit 143 };
    my $dir = File::Temp::tempdir('/tmp/usersync.XXXXXX');
    chmod 0755, $dir;
    $self->{run_dir}  = $dir;
    $self->{guardian} = UserSync::Guardian->start($dir);
    my $logs = make_dir(top_dir() . "/t/logs/$self->{mpm}");
    unlink grep { -f $_ } glob "$logs/*";
    $ENV{USERSYNC_RUN}    = $dir;
    $ENV{USERSYNC_LOGS}   = $logs;
    $ENV{USERSYNC_MPM}    = $self->{mpm};
    $ENV{USERSYNC_MODULE} = UserSync::Httpd::module_file('usersync');
    $ENV{PERL5LIB} = join ':', top_dir() . '/t/lib', $ENV{PERL5LIB} || ();
    my @modules = UserSync::Httpd::modules($self->{mpm});
    # LoadModule lines: Apache::Test reads them from an inherited
    # configuration; the system's would add whatever happens to be enabled
    my %conf = (
        httpd       => UserSync::Httpd::program(),
        httpd_conf  => spew("$dir/modules.conf",
            UserSync::Httpd::load_modules(@modules)),
        port        => reserve_port(),
        servername  => '127.0.0.1',
        remote_addr => '127.0.0.1',
        t_logs      => $logs,
    );
    $conf{apxs} = $_ for grep { -x } '/usr/bin/apxs';
    $self->{conf_opts}{$_} = $conf{$_} for keys %conf;
    # the files of the last run are for other ports
    unlink map { top_dir() . "/t/conf/$_" }
        qw(apache_test_config.pm httpd.conf extra.conf);
    delete $self->{conf_opts}{thaw};
    $self->{conf_opts}{save} = 1;
    return;
}

sub new_test_config {
    my ($self) = @_;
    return UserSync::Config->new($self->{conf_opts});
}

# Without names: all tests except those that run without servers.
sub split_test_args {
    my ($self) = @_;
    $self->SUPER::split_test_args;
    $self->{tests} = [UserSync::Suite->served_tests]
        unless @{ $self->{tests} } || @{ $self->{argv} };
    return;
}

sub default_run_opts {
    my ($self) = @_;
    $self->{opts}{$_} = 1 for qw(start-httpd run-tests stop-httpd);
    return;
}

sub start {
    my ($self) = @_;
    $self->check_runtime_user;
    my $dir = $self->{run_dir};
    $self->{pg} = UserSync::Postgres->new(
        dir => "$dir/pg", log => "$ENV{USERSYNC_LOGS}/postgresql.log");
    $self->{pg}->start->createdb('app')->createdb('other');
    # the double's output is read after a failure
    symlink "$ENV{USERSYNC_LOGS}/double.log",
        make_dir("$dir/double") . '/stderr.log';
    $self->{double} = UserSync::Double->start(dir => "$dir/double");
    $self->export_environment;
    _certificate("$dir/tls");
    $self->SUPER::start;
    $self->write_info;
    return;
}

# The variables ${USERSYNC_...} of t/conf/*.conf.in.
sub export_environment {
    my ($self) = @_;
    my $dir = $self->{run_dir};
    $ENV{USERSYNC_DSN_APP}   = $self->{pg}->dsn('app');
    $ENV{USERSYNC_DSN_OTHER} = $self->{pg}->dsn('other');
    $ENV{USERSYNC_AUTH}      = $self->{double}->url;
    my $umask = umask 077;
    spew("$dir/$_.key", $self->{double}->key($_) . "\n")
        for qw(publishable secret anon service_role);
    umask $umask;
    return;
}

# For the tests: see UserSync::Test.
sub write_info {
    my ($self) = @_;
    my $config = $self->{test_config};
    my $vars   = $config->{vars};
    my %port   = map { $_ => $config->{vhosts}{$_}{port} }
        keys %{ $config->{vhosts} };
    $self->{error_log} = $config->error_log;
    write_json("$self->{run_dir}/suite.json", {
        mpm   => $self->{mpm},
        httpd => {
            mpm        => $self->{mpm},
            port       => $vars->{port},
            vhost_port => \%port,
            pid_file   => $vars->{t_pid_file},
            error_log  => $self->{error_log},
            access_log => "$vars->{t_logs}/access_log",
            conf_file  => $vars->{t_conf_file},
            dir        => $vars->{serverroot},
        },
        pg     => $self->{pg}->info,
        double => "$self->{run_dir}/double/ready.json",
        ca     => "$self->{run_dir}/tls/ca.pem",
    });
    return;
}

sub run_tests {
    my ($self) = @_;
    return unless $self->{opts}{'run-tests'};
    local $ENV{USERSYNC_VERBOSE} = 1 if $self->{opts}{verbose};
    my $tests = $self->{tests};
    @$tests = reverse @$tests if ($self->{opts}{order} || '') eq 'reverse';
    $self->{ok} = UserSync::Suite->run($self->{mpm}, @$tests);
    return;
}

# Ends everything; failures after the last test still count.
sub stop {
    my ($self) = @_;
    my @trouble;
    $self->SUPER::stop;
    my $checked = read_json("$self->{run_dir}/checked.json") || {};
    my $log = UserSync::Log->new($self->{error_log}, $checked->{position});
    push @trouble, $log->unexpected;
    eval { $self->{double}->stop; 1 } or push @trouble, "the double: $@";
    eval { $self->{pg}->stop;     1 } or push @trouble, "PostgreSQL: $@";
    push @trouble, map {"still running: $_"}
        UserSync::Guardian::leftovers($self->{run_dir});
    if (@trouble) {
        print STDERR map {"# after the last test: $_\n"} @trouble;
        UserSync::Suite->record($self->{mpm}, 'shutdown', 0);
        $self->{ok} = 0;
    }
    $self->{stopped} = 1;
    return;
}

# Exit status for t/TEST.
sub main {
    my ($class, @arg) = @_;
    # otherwise Apache::Test would restart itself to allow core files
    $ENV{APACHE_TEST_ULIMIT_SET} = 1;
    local $ENV{APACHE_TEST_NO_STICKY_PREFERENCES} = 1;
    my $self = $class->new;
    $self->run(@arg);
    return $self->{ok} ? 0 : 1;
}

# A certificate for 127.0.0.1 and the authority that signed it.
sub _certificate {
    my ($dir) = @_;
    make_dir($dir);
    spew("$dir/server.ext", "subjectAltName=IP:127.0.0.1,DNS:127.0.0.1\n"
        . "basicConstraints=critical,CA:FALSE\n");
    my @key = qw(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes);
    my @commands = (
        [qw(openssl req -x509 -days 2 -subj /CN=usersync-test-ca), @key,
            '-keyout', "$dir/ca.key", '-out', "$dir/ca.pem"],
        [qw(openssl req -subj /CN=127.0.0.1), @key,
            '-keyout', "$dir/server.key", '-out', "$dir/server.csr"],
        [qw(openssl x509 -req -days 2 -CAcreateserial), '-in',
            "$dir/server.csr", '-CA', "$dir/ca.pem", '-CAkey',
            "$dir/ca.key", '-extfile', "$dir/server.ext", '-out',
            "$dir/server.pem"],
    );
    for my $command (@commands) {
        my ($status, $said) = run_command(@$command);
        die "@$command: $said" if $status;
    }
    return;
}

sub _tell_why_httpd_died {
    my ($self) = @_;
    my $log = "$ENV{USERSYNC_LOGS}/error_log";
    my @lines = split /\n/, slurp($log) || '';
    @lines = @lines[-20 .. -1] if @lines > 20;
    print STDERR map {"# $_\n"} @lines;
    return;
}

END {
    if ($self_of_run && $$ == $main_pid) {
        my $status = $?;
        my $self = $self_of_run;
        if (!$self->{stopped}) {
            eval { $self->{server}->stop } if $self->{server};
            eval { $self->{double}->stop } if $self->{double};
            eval { $self->{pg}->stop('immediate') } if $self->{pg};
            $self->_tell_why_httpd_died unless $self->{error_log};
            $status ||= 1;
        }
        $self->{guardian}->finish if $self->{guardian};
        $? = $status;
    }
}

1;
