package Bench::Scenario;

# The scenarios: each starts what it needs, measures, stops it again and
# returns { figures => ..., setup => a description }.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use UserSync::HTTP ();
use UserSync::Util qw(run_command slurp top_dir wait_until);

use Bench::Contender ();
use Bench::GateScenario ();
use Bench::HookScenario ();
use Bench::Httpd ();
use Bench::Measure qw(rounds run_wrk spread);
use Bench::OpenLoop ();
use Bench::Process qw(cpu_seconds family pss_kb);
use Bench::ProxyScenario ();
use Bench::ReconcileScenario ();

my $CLIENTS = 16;
my $DELAY   = 200;
my $WAITING = 500;

# In the order in which they run.
our @ALL = qw(known cached first register slow64 slow256 slow500 rows tls
    memory hung prepared gate-warm gate-cold gate-users gate-dbd gate-banned
    hook-cached hook-known hook-crowd hook-event proxy-stream proxy-cached
    proxy-known reconcile-api reconcile-db);

our %TITLE = (
    known    => "login of known users, no delay, $CLIENTS connections",
    cached   => 'login of 1 000 known users: known to the cache, and looked up',
    first    => "first logins (a row for each), no delay, $CLIENTS connections",
    register => "register (a row for each), no delay, $CLIENTS connections",
    (map { ("slow$_" => "login of known users, upstream takes $DELAY ms, $_"
        . ' connections, tuned limits') } 64, 256, $WAITING),
    rows     => 'login of known users, table of 1 000 000 and of 1 000 rows',
    tls      => 'login of known users, TLS to the upstream',
    memory   => 'memory of logins that wait, tuned limits',
    hung     => 'hung upstream, 300 logins/s offered, a static file beside it',
    prepared => 'the look-up of a known user through libpq, one connection',
    'gate-warm'  => 'the gate behind mod_oauth2, users known to the cache, one'
        . ' and 500',
    'gate-cold'  => 'the gate behind Basic authentication, users unknown to the'
        . ' cache, and users without a row',
    'gate-users' => 'the gate, 100 000 users known to the cache and 100',
    'gate-dbd'   => 'the gate, users known to the cache, beside stock httpd'
        . ' with an INSERT per request',
    'gate-banned' => 'the gate, users whom the cache knows to be banned, beside'
        . ' users known to it',
    'hook-cached' => 'token hook, 1 000 users known to the cache, beside the'
        . ' login of the same',
    'hook-known'  => 'token hook, one of 1 000 000 known users each, no cache,'
        . ' beside the login of the same',
    'hook-crowd'  => "token hook, known users, $WAITING calls at a time, tuned"
        . ' limits',
    'hook-event'  => 'events that change a row, each of another user',
    'proxy-stream' => 'answers without a user through mod_proxy: GET /settings'
        . ' and POST /otp, the filter On, Off, and no module',
    'proxy-cached' => 'sessions through mod_proxy of 1 000 users known to the'
        . ' cache, the filter On, and no module',
    'proxy-known'  => 'sessions through mod_proxy, one of 1 000 000 known users'
        . ' each, no cache, beside stock httpd with SQL and the login of the'
        . ' same',
    'reconcile-api' => 'usersync-reconcile with the admin API: an empty table,'
        . ' and nothing to do, beside a script in Python',
    'reconcile-db'  => 'usersync-reconcile with auth.users, beside the same'
        . ' script',
);

# Where shorter runs would be less useful: a client that waits 200 ms for each
# answer loses the last one, and the circuit opens after five seconds.
my %LEAST = (slow64 => 10, slow256 => 10, slow500 => 10, hung => 12);

# The length of its runs when this many seconds are requested.
sub seconds {
    my ($name, $seconds) = @_;
    my $least = $LEAST{$name} || 1;
    return $seconds < $least ? $least : $seconds;
}

# Runs one by its name. run: { world, rounds, seconds, quiet, progress }
sub run {
    my ($name, $run) = @_;
    my $code = $name =~ /^reconcile-(\w+)/ ? Bench::ReconcileScenario->can($1)
        : $name =~ /^(gate|hook|proxy)-(\w+)/ ? _of($1, $2)
        : __PACKAGE__->can("_$name");
    die "no scenario named $name\n" unless $code;
    my @started;
    my $start = sub {
        my $it = Bench::Contender->start($_[0], $run->{world}, @_[1 .. $#_]);
        push @started, $it;
        return $it;
    };
    my $result = eval { $code->($run, $start) };
    my $error  = $@;
    $run->{world}->delay(0);
    $run->{world}->hang(0);
    $run->{world}->count_statements(0);
    $_->stop for @started;
    die $error unless $result;
    return $result;
}

sub _options {
    my ($run, %more) = @_;
    return (connections => $CLIENTS,
        (map { $_ => $run->{$_} } qw(rounds seconds quiet progress)),
        %more);
}

# Those of the gate, the hook, and Supabase's own clients.
sub _of {
    my ($door, $what) = @_;
    my $code = "Bench::\u${door}Scenario"->can($what) or return;
    return sub {
        my ($run, $start) = @_;
        return $code->({ _options($run) }, $start, $run->{world});
    };
}

sub _known {
    my ($run, $start) = @_;
    my @all = map { $start->($_) }
        qw(module proxy stock python node nginx direct);
    return rounds('known', \@all, _options($run));
}

# Each starts with the same table, which has grown by the inserted rows.
sub _first {
    my ($run, $start) = @_;
    my @all = map { $start->($_) } qw(module stock python node);
    my $result = rounds('first', \@all, _options($run));
    $run->{world}->refill('app');
    return $result;
}

sub _register {
    my ($run, $start) = @_;
    my @all = map { $start->($_) } qw(module proxy stock python node nginx);
    my $result = rounds('register', \@all, _options($run));
    $run->{world}->refill('app');
    return $result;
}

sub _slow {
    my ($clients, $run, $start) = @_;
    my @all = map { $start->($_, tuned => 1) }
        qw(module proxy stock python node nginx);
    my $ideal = $clients * 1000 / $DELAY;
    $run->{world}->delay($DELAY);
    my $result = rounds('known', \@all,
        _options($run, connections => $clients));
    $_->{of_ideal} = spread(map { $_ / $ideal } @{ $_->{rate}{all} })
        for values %$result;
    return $result;
}

sub _slow64  { return _slow(64, @_) }
sub _slow256 { return _slow(256, @_) }
sub _slow500 { return _slow($WAITING, @_) }

sub _rows {
    my ($run, $start) = @_;
    my @all = map {
        my $it = $start->('module', db => $_);
        $it->{label} = $_ eq 'app' ? '1000000' : '1000';
        $it;
    } qw(app small);
    return rounds('known', \@all, _options($run));
}

# Without a gate, the cache needs its own line.
sub _cached {
    my ($run, $start) = @_;
    my $cached = $start->('module', db => 'small',
        more => "UserSyncCache shmcb\n");
    $cached->{label} = 'cached';
    my @others = map { $start->($_, db => 'small') } qw(module proxy stock);
    return rounds('known', [$cached, @others], _options($run));
}

# Connections are counted from the start of the servers.
sub _tls {
    my ($run, $start) = @_;
    my %before = %{ $run->{world}->stats };
    my $module = $start->('module', tls => 1);
    my $alone = $run->{world}->stats;
    my $proxy = $start->('proxy', tls => 1);
    my $result = rounds('known', [$module, $proxy], _options($run));
    # the first requests of both came before the rounds
    $result->{module}{opened} += $alone->{tls} - $before{tls};
    for my $seen (values %$result) {
        $seen->{$_} += $seen->{warm_up}{$_} for qw(opened requests);
        $seen->{per_10000} = $seen->{opened} * 10_000 / $seen->{requests};
    }
    return $result;
}

# A fresh server that has answered once, then 500 waiting logins.
sub _memory {
    my ($run, $start) = @_;
    my $world = $run->{world};
    my $clients = $WAITING;
    my (@kb, @idle);
    for my $round (1 .. $run->{rounds}) {
        my $it = $start->('module', tuned => 1,
            more => "UserSyncTimeout 60s\nUserSyncCircuitBreaker Off\n");
        my $threads = 0;
        wait_until {
            $threads = 0;
            $threads += () = glob "/proc/$_/task/*" for $it->{httpd}->children;
            $threads > 1024;
        } 30, 'all threads';
        my $before = pss_kb($it->pids);
        $world->hang(1);
        my $load = Bench::OpenLoop->start(rate => 1000, clients => $clients,
            most => $clients, url => $it->route('known')->{url});
        wait_until { $world->stats->{waiting} >= $clients } 30,
            "$clients logins that wait";
        sleep 0.5;
        my $during = pss_kb($it->pids);
        my $waited = $world->stats->{waiting};
        $load->stop;
        die "$waited logins waited\n" if $waited != $clients;
        $world->hang(0);
        $it->stop;
        push @kb, ($during - $before) / $clients;
        push @idle, $before;
        $run->{progress}->('module', $round,
            { kb => $kb[-1], idle => $before });
    }
    return { kb => spread(@kb), idle => spread(@idle), clients => $clients };
}

# Both sides of a round have their own fresh servers: no round finds the
# circuit as the last one left it. wrk measures from the moment of the first
# login.
sub _hung {
    my ($run, $start) = @_;
    my $seconds = $run->{seconds};
    my (%static, %logins);
    for my $round (1 .. $run->{rounds}) {
        my @sides = $round % 2 ? qw(redirect login) : qw(login redirect);
        for my $side (@sides) {
            my $it = $start->('module',
                more => "Redirect 503 /redirected\n");
            $it->{httpd}->log->allow(qr/./);
            $run->{world}->hang(1);
            my $load = Bench::OpenLoop->start(rate => 300, clients => 300,
                url => $side eq 'login' ? $it->route('known')->{url}
                    : $it->url('/redirected'));
            my $seen = run_wrk(url => $it->url('/static.html'),
                mode => 'get', connections => $CLIENTS, seconds => $seconds);
            my $offered = $load->stop;
            $run->{world}->hang(0);
            $it->stop;
            die "$side: only $offered->{sent} requests were offered\n"
                if $offered->{sent} < 0.95 * 300 * $seen->{seconds};
            push @{ $static{$side} }, $seen;
            push @{ $logins{$side} }, $offered;
            $run->{progress}->($side, $round, { %$seen, %$offered });
        }
    }
    my %result = map {
        my $side = $_;
        $side => {
            rate => spread(map { $_->{rate} } @{ $static{$side} }),
            p99  => spread(map { $_->{p99} } @{ $static{$side} }),
            max  => spread(map { $_->{max} } @{ $static{$side} }),
            offered => $logins{$side},
        };
    } qw(redirect login);
    return { %result, seconds => $seconds, ratio => spread(map {
        $static{login}[$_]{rate} / $static{redirect}[$_]{rate}
    } 0 .. $run->{rounds} - 1) };
}

# Would preparing the look-up pay off? The same statement in both ways.
sub _prepared {
    my ($run) = @_;
    my $pg = $run->{world}->pg;
    my %seen;
    for my $round (1 .. $run->{rounds}) {
        for my $way ($round % 2 ? qw(params prepared) : qw(prepared params)) {
            my ($status, $said) = run_command(
                top_dir() . '/build/bench/lookups', $pg->dsn('app'), $way,
                $run->{seconds}, $run->{world}->rows('app'), $round);
            my $line = $status ? undef : eval { JSON::PP::decode_json($said) };
            die "lookups $way: $said" unless $line;
            push @{ $seen{$way} }, $line;
            $run->{progress}->($way, $round, $line);
        }
    }
    return { map {
        my $way = $_;
        $way => { map {
            my $what = $_;
            $what => spread(map { $_->{$what} } @{ $seen{$way} });
        } qw(rate client_cpu server_cpu) };
    } keys %seen };
}

1;
