# conf/usersync-prometheus.yml, usersync-alerts.yml and usersync-grafana.json: a
# real Prometheus scrapes a real httpd with them, an alert fires when PostgreSQL
# is stopped, and every metric that alerts and dashboard speak of is there.

use UserSync::Outage;
use UserSync::Test;
use UserSync::Util qw(read_json top_dir);

for my $program (qw(prometheus promtool)) {
    plan(skip_all => "$program is not installed") unless -x "/usr/bin/$program";
}

my $conf = top_dir() . '/conf';
my $dir = UserSync::Util::new_dir('prometheus');
my $pg = own_postgres();
my $httpd = outage_lines(own_httpd($pg, children => 2, config => <<'CONF',
<Location "/usersync-status">
    SetHandler usersync-status
    Require local
</Location>
CONF
    set => { UserSyncStoreTimeout => '500ms',
        UserSyncCircuitBreaker => '5 10s' }))->start;

sub page { return get($httpd->url("/usersync-status?format=$_[0]"))->{body} }

# A file of conf in the directory of the test, after a change.
sub copy_of {
    my ($name, $change) = @_;
    local $_ = slurp("$conf/$name") || die "$name is missing\n";
    $change->() if $change;
    return spew("$dir/$name", $_);
}

sub promtool_ok {
    my ($name, @command) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($status, $said) = run_command('promtool', @command);
    return is($status, 0, $name) || diag $said;
}

# ---- the files as they are shipped

subtest 'promtool' => sub {
    copy_of($_) for qw(usersync-prometheus.yml usersync-alerts.yml);
    promtool_ok 'the configuration', 'check', 'config',
        "$dir/usersync-prometheus.yml";
    promtool_ok 'the rules', 'check', 'rules', '--lint-fatal',
        "$dir/usersync-alerts.yml";
    spew("$dir/test.yml", slurp(top_dir() . '/t/prometheus/alerts.yml'));
    promtool_ok 'what the rules make of numbers', 'test', 'rules',
        "$dir/test.yml";
    copy_of('usersync-alerts.yml', sub {s/_misfit == 1$/_misfit == 2/m});
    my ($status, $said) = run_command('promtool', 'test', 'rules',
        "$dir/test.yml");
    isnt $status, 0, 'which would notice another rule';
    like $said, qr/UsersyncStoreMisfit/, 'and name it';
    spew("$dir/page", page('prometheus'));
    ($status, $said) = run_command('sh', '-c',
        'exec promtool check metrics <"$1"', 'sh', "$dir/page");
    is $status, 0, 'the page' or diag $said;
};

subtest 'every alert says what to do' => sub {
    my @alerts = split /^ *- alert: /m, slurp("$conf/usersync-alerts.yml");
    shift @alerts;
    cmp_ok scalar @alerts, '>=', 10, 'there are alerts';
    for my $alert (@alerts) {
        my ($name) = $alert =~ /^(\w+)/;
        like $alert, qr/^ +severity: (?:critical|warning)$/m, "$name: severity";
        like $alert, qr/^ +summary: "\{\{ \$labels\.instance \}\}: .+"$/m,
            "$name: summary";
        like $alert, qr/^ +description: >-\n(?: {12}\S.*\n){2,}/m,
            "$name: description";
    }
};

# ---- the expressions

# Those of the alerts, as Prometheus has read them, and those of the dashboard.
my $dashboard = read_json("$conf/usersync-grafana.json");
ok $dashboard, 'the dashboard is JSON' or BAIL_OUT('no dashboard');
my @panels = @{ $dashboard->{panels} };
my @targets = map { @{ $_->{targets} } } @panels;

subtest 'the dashboard' => sub {
    my (%seen, @at);
    is_deeply [grep { $seen{$_}++ } map { $_->{id} } @panels], [],
        'each panel has an id of its own';
    for my $panel (@panels) {
        my %grid = %{ $panel->{gridPos} };
        my @taken = grep {defined} map { my $y = $_; map { $at[$y][$_] }
            $grid{x} .. $grid{x} + $grid{w} - 1 } $grid{y} .. $grid{y} + $grid{h} - 1;
        is_deeply \@taken, [], "$panel->{title}: has its place";
        for my $y ($grid{y} .. $grid{y} + $grid{h} - 1) {
            $at[$y][$_] = 1 for $grid{x} .. $grid{x} + $grid{w} - 1;
        }
        ok length $panel->{description}, "$panel->{title}: says what it is";
    }
    is_deeply [grep { $_->{datasource}{uid} ne '${datasource}' } @panels,
        @targets], [], 'all ask the Prometheus that was chosen';
};

# ---- a real Prometheus

my $port = reserve_port();
my $job;

# With short intervals, and alerts that do not wait.
sub start_prometheus {
    my $to = $httpd->url =~ s{^http://}{}r;
    copy_of('usersync-prometheus.yml', sub {
        s/scrape_interval: \w+/scrape_interval: 1s/;
        s/scrape_timeout: \w+/scrape_timeout: 1s/;
        s/localhost:80/$to/;
        s/^(?=rule_files)/global:\n  evaluation_interval: 500ms\n/m;
    });
    copy_of('usersync-alerts.yml', sub {s/for: \w+/for: 0s/g});
    $job = UserSync::Background->start(sub {
        open STDOUT, '>', "$dir/log";
        open STDERR, '>&', \*STDOUT;
        exec 'prometheus', "--config.file=$dir/usersync-prometheus.yml",
            "--web.listen-address=127.0.0.1:$port",
            "--storage.tsdb.path=$dir/data" or die "prometheus: $!";
    });
    wait_until {
        (get("http://127.0.0.1:$port/-/ready")->{status} || 0) == 200
    } 60 or diag slurp("$dir/log");
    return;
}

# What its API has at a path; arguments become the query.
sub api {
    my ($path, %query) = @_;
    my $url = "http://127.0.0.1:$port/api/v1/$path";
    my $query = join '&', map { "$_=" . ($query{$_}
            =~ s/([^\w.-])/sprintf '%%%02X', ord $1/ger) } sort keys %query;
    my $json = get($query ? "$url?$query" : $url)->{json} || {};
    diag explain $json if ($json->{status} || '') ne 'success';
    return $json->{data} || {};
}

# [labels, value] of all that an expression finds.
sub found {
    my ($expr) = @_;
    return map { [$_->{metric}, $_->{value}[1]] }
        @{ api('query', query => $expr)->{result} || [] };
}

# The names of the alerts that fire.
sub firing {
    return sort map { $_->{labels}{alertname} } grep { $_->{state} eq 'firing' }
        @{ api('alerts')->{alerts} || [] };
}

my @people = people(4);
login($httpd, $_) for @people;
start_prometheus();

subtest 'it scrapes' => sub {
    wait_until { (found('usersync_build_info'))[0] } 30, 'the first scrape';
    my ($target) = @{ api('targets')->{activeTargets} };
    is $target->{health}, 'up', 'the target is up'
        or diag $target->{lastError};
    is $target->{labels}{job}, 'usersync', 'of the job';
    my ($logins) = found('usersync_requests_total{route="login",code="ok"}');
    is $logins->[1], 4, 'it has the counts';
    is((found('usersync_upstream_duration_seconds_bucket{operation="login",'
            . 'le="+Inf"}'))[0][1], 4, 'and the histograms');
};

my @rules;

subtest 'it has read the rules' => sub {
    @rules = map { @{ $_->{rules} } } @{ api('rules')->{groups} };
    my @names = slurp("$conf/usersync-alerts.yml") =~ /^ +- alert: (\w+)$/mg;
    is_deeply [map { $_->{name} } @rules], \@names, 'all of them';
    wait_until { !grep { $_->{health} ne 'ok' }
        map { @{ $_->{rules} } } @{ api('rules')->{groups} } } 30, 'their health';
    is_deeply [firing()], [], 'and nothing is wrong';
};

# Names of metrics on the page, histograms with all of theirs.
sub names_on_page {
    return { up => 1, map { /^(usersync_\w+)[{ ]/ ? ($1 => 1) : () }
            split /\n/, page('openmetrics') };
}

subtest 'metrics and labels that are spoken of' => sub {
    my $is_there = names_on_page();
    my $reply = slurp(top_dir() . '/src/reply/reply.c');
    my %code = map { $_ => 1 } $reply =~ /^ +\{US_\w+,.*?"(\w+)"/mgs;
    ok $code{ok} && $code{upstream_rejected_key}, 'the codes can be read';
    my @exprs = map { $_->{query} || $_->{expr} } @rules, @targets;
    cmp_ok scalar @exprs, '>', 30, 'there are expressions';
    my %used;
    for my $expr (@exprs) {
        $used{$_}++ for $expr =~ /\b(usersync_\w+)/g;
        my @missing = grep { !$is_there->{$_} } $expr =~ /\b(usersync_\w+)/g;
        is_deeply \@missing, [], "names of $expr";
        my @values = map { split /\|/ } $expr =~ /\bcode[=!]~?"([^"]+)"/g;
        is_deeply [grep { !$code{$_} } @values], [], "codes of $expr" if @values;
    }
    my $family = sub {
        my %names = map { s/_(?:bucket|count|sum)\z//r => 1 }
            grep { $_ ne 'up' } @_;
        return sort keys %names;
    };
    my @there = $family->(keys %$is_there);
    is_deeply [$family->(keys %used)], \@there, 'all of the page are shown';
    my @told = map { /`(usersync_\w+)`/g }
        map { /^\| (`usersync_[^|]*)\|/ ? $1 : () }
        split /\n/, slurp(top_dir() . '/docs/operations.md');
    is_deeply [sort @told], \@there, 'docs/operations.md has them';
};

subtest 'every panel finds something' => sub {
    for my $panel (@panels) {
        for my $target (@{ $panel->{targets} }) {
            my $expr = $target->{expr};
            $expr =~ s/\$__rate_interval|\$__range/5m/g;
            $expr =~ s/\$(?:job|instance)\b/.*/g;
            unlike $expr, qr/\$/, "$panel->{title}: known variables";
            $expr =~ s/ > 0\z//;
            my @series = wait_until { my @all = found($expr);
                @all ? \@all : undef } 30;
            ok scalar @series, $expr;
            my %label = map { $_ => 1 } map { keys %{ $_->[0] } } @{ $series[0] };
            my @missing = grep { !$label{$_} }
                $target->{legendFormat} =~ /\{\{(\w+)\}\}/g;
            is_deeply \@missing, [], 'with the labels of the legend';
        }
    }
};

subtest 'PostgreSQL is stopped' => sub {
    $pg->stop('immediate');
    wait_until { "@{[firing()]}" eq 'UsersyncStoreDown' } 60, 'the alert'
        or diag explain [firing()];
    my ($alert) = @{ api('alerts')->{alerts} };
    is $alert->{annotations}{summary}, $alert->{labels}{instance}
        . ': the users table of 127.0.0.1 cannot be asked', 'says what it is';
    $pg->start;
    wait_until { !firing() } 60, 'the alert to end';
    $pg->sql(app => 'ALTER TABLE users RENAME COLUMN id TO key');
    wait_until { "@{[firing()]}" eq 'UsersyncStoreMisfit' } 60,
        'the alert of a table that does not match';
    pass 'it is known by its own alert';
    kill 'TERM', $job->pid;
};

done_testing;
