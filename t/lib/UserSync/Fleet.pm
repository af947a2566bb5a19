package UserSync::Fleet;

# A site of several hosts: httpd on web1 and web2, haproxy in front, which asks
# usersync-status?check, a redis cache that both share, and a Supabase of its
# own.
#
#   use UserSync::Hosts;
#   use UserSync::Test -keep;
#   use UserSync::Fleet;
#
#   my $fleet = UserSync::Fleet->start(params => 'host=... dbname=app');
#   my $load = $fleet->load;
#   ...
#   $fleet->promise_ok($load->stop, $pg);

use strict;
use warnings;

use JSON::PP ();
use Test::More ();
use Time::HiRes qw(time);

use UserSync::Double ();
use UserSync::Gate qw(as_user guarded);
use UserSync::Hosts qw(host hub);
use UserSync::HTTP ();
use UserSync::Httpd ();
use UserSync::Load ();
use UserSync::Outage qw(outage_lines);
use UserSync::Services qw(documented start_haproxy start_redis);
use UserSync::Test ();
use UserSync::Util qw(new_dir slack spew wait_until);

my $PASSWORD = 'correct horse battery';
my $count = 0;
my @fleets;

# ---- the hosts

# params => DBDParams, of both or { web1 => ..., web2 => ... }
sub start {
    my ($class, %arg) = @_;
    my $supabase = UserSync::Double->start(dir => new_dir('double'), config => {
        autoconfirm => JSON::PP::true(), reuse_tokens => JSON::PP::true(),
        record_requests => JSON::PP::false() });
    my $self = bless { %arg, supabase => $supabase,
        redis => start_redis(on => hub()) }, $class;
    push @fleets, $self;
    $self->{members} = [map { $self->person } 1 .. 40];
    $self->{httpd}{$_} = $self->_httpd(host($_)) for qw(web1 web2);
    $self->{front} = start_haproxy($self->_front);
    return $self;
}

sub _httpd {
    my ($self, $on) = @_;
    $self->{url}{ $on->name }
        = 'http://127.0.0.1:' . $on->tunnel($self->{supabase}->port);
    my $httpd = outage_lines(UserSync::Httpd->new(on => $on,
        UserSync::Test::mpm() eq 'prefork' ? (children => 24)
            : (children => 2, threads => 25),
        modules => [qw(authn_anon socache_redis)],
        config => $self->_config($on->name)));
    mkdir $httpd->dir . '/htdocs/app';
    spew($httpd->dir . '/htdocs/app/file', "file\n");
    $httpd->allow_log($_) for
        qr/usersync-(?:register|gate): store_unavailable/,
        # the same user logs in at the other host, whose commit waits for the
        # standby
        qr/usersync-login: ok, .* could not follow: another transaction holds/,
        # all of this runs on one machine
        qr/US017: the cache of known users/;
    return $httpd->start;
}

sub _config {
    my ($self, $name) = @_;
    my $params = $self->{params};
    my $redis = $self->{redis};
    $params = $params->{$name} if ref $params;
    return UserSync::Test::module_config(
        DBDParams => qq{"$params"},
        UserSyncSupabaseURL => $self->{url}{$name},
        UserSyncCache => "redis:$redis->{address}:$redis->{port}",
        UserSyncCacheTimeout => '5s',
        UserSyncCircuitBreaker => undef, # On
    ) . guarded('/app', 'UserSyncEnsure On') . <<'CONF';
# room for the children of two generations
ServerLimit 100
<Location "/usersync-status">
    SetHandler usersync-status
</Location>
CONF
}

# Other DBDParams from now on, after a rolling graceful.
sub connect_to {
    my ($self, $params) = @_;
    $self->{params} = $params;
    $_->write_config($self->_config($_->{on}->name))->graceful
        for $self->httpds;
    return;
}

# The configuration of haproxy in docs/operations.md, for the hosts of the test.
sub _front {
    my ($self) = @_;
    my $text = documented(haproxy => qr/usersync-status/);
    for my $name (sort keys %{ $self->{httpd} }) {
        my $httpd = $self->{httpd}{$name};
        my $where = $httpd->address . ':' . $httpd->port;
        $text =~ s/(server $name )\S+/$1$where/g or die "no $name in $text\n";
    }
    return $text;
}

# Before UserSync::Test looks for what was forgotten. Services end by themselves.
END {
    local $?;
    $_->{supabase}->stop for @fleets;
}

sub httpd { return $_[0]{httpd}{ $_[1] } }
sub httpds { return map { $_[0]{httpd}{$_} } sort keys %{ $_[0]{httpd} } }

sub supabase { return $_[0]{supabase} }

# The URL of a path behind haproxy.
sub url {
    my ($self, $path) = @_;
    return "http://$self->{front}{address}:$self->{front}{port}$path";
}

# ---- people

# One whom Supabase has and nobody else.
sub person {
    my ($self) = @_;
    my %who = (email => sprintf('member%d@example.com', ++$count),
        password => $PASSWORD);
    return { %who, id => $self->{supabase}->add_user(%who)->{id} };
}

# A login at one host, or with undef where haproxy leads it.
sub login {
    my ($self, $httpd, $person) = @_;
    return UserSync::HTTP->exchange(POST => $httpd
            ? $httpd->url('/auth/login') : $self->url('/auth/login'),
        { email => $person->{email}, password => $PASSWORD });
}

# A request of a user at the gate of one host.
sub visit {
    my ($self, $httpd, $person) = @_;
    return UserSync::HTTP->exchange(GET => $httpd->url('/app/file'), undef,
        as_user($person->{id}));
}

# Registrations of new users, logins and requests at the gate, through haproxy,
# until it is stopped.
sub load {
    my ($self, %arg) = @_;
    my $prefix = 'new' . ++$count . '-';
    return UserSync::Load->start(clients => 16, rate => 60, keep => 1, %arg,
        request => sub {
            my ($n) = @_;
            my $member = $self->{members}[rand @{ $self->{members} }];
            my $way = $n % 3;
            return ([GET => $self->url('/app/file'), undef,
                as_user($member->{id})], "visit $member->{email}") if !$way;
            my $email = $way == 1 ? $member->{email}
                : "$prefix$n\@example.com";
            return ([POST => $self->url($way == 1 ? '/auth/login'
                    : '/auth/register'),
                { email => $email, password => $PASSWORD }],
                ($way == 1 ? 'login' : 'register') . " $email");
        });
}

# ---- what must be true

# Answers of the load by their kind; those of the gate bear no session.
sub kinds {
    my ($seen) = @_;
    my %by;
    for my $reply (@{ $seen->{replies} }) {
        my $kind = $reply->{kind};
        $kind = '200' if $kind eq '200 without all' && $reply->{who} =~ /^visit/;
        push @{ $by{$kind} }, $reply;
    }
    return \%by;
}

sub summary {
    my ($seen) = @_;
    my $by = kinds($seen);
    return join(', ', map { @{ $by->{$_} } . " x $_" } sort keys %$by)
        . sprintf ', slowest %.3f s', $seen->{slowest};
}

# Each answer of the load is 200 or one of these kinds.
sub kinds_ok {
    my ($seen, $allowed, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    Test::More::note("$name: " . summary($seen));
    return Test::More::is_deeply(
        [grep { !/^(?:200|$allowed)$/ } sort keys %{ kinds($seen) }], [],
        $name) || Test::More::diag(Test::More::explain($seen->{bad}));
}

# The promise, after a load, in the database that is the primary now: who has a
# token or passed the gate has a row, and each row is of an account.
# Then all accounts can log in, and the rows are those of the accounts.
sub promise_ok {
    my ($self, $seen, $pg) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %account = map { $_->{email} => $_->{id} } $self->{supabase}->users;
    my %row = _rows($pg);
    my @served = grep { $_->{kind} =~ /^200/ } @{ $seen->{replies} };
    my @without = grep { !$row{$_} }
        map { $account{ ($_->{who} =~ / (.*)/)[0] } || "$_->{who}, unknown" }
        @served;
    Test::More::is_deeply(\@without, [], 'no token without a row');
    my %id = map { $_ => 1 } values %account;
    Test::More::is_deeply([grep { !$id{$_} } keys %row], [], 'no phantom');
    $self->everybody_ok($pg);
    return;
}

# Everybody can log in, and has a row then.
sub everybody_ok {
    my ($self, $pg) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @all = $self->{supabase}->users;
    my $rest = UserSync::Load->start(clients => 8, most => scalar @all,
        request => sub {
            my $email = $all[ $_[0] ]{email};
            return ([POST => $self->url('/auth/login'),
                { email => $email, password => $PASSWORD }], $email);
        })->finish;
    Test::More::is_deeply($rest->{by}, { 200 => scalar @all },
        'everybody can log in') || Test::More::diag(
            Test::More::explain($rest->{bad}));
    Test::More::is_deeply([sort +_ids($pg)], [sort map { $_->{id} } @all],
        'no orphan: the rows are those of the accounts');
    return;
}

sub _ids {
    my ($pg) = @_;
    return map { $_->{id} } $pg->sql(app => 'SELECT id FROM users');
}

sub _rows { return map { $_ => 1 } _ids($_[0]) }

# From a moment on, each host serves new users within this many seconds, and so
# does haproxy, whose clients the load is: returns it stopped.
#
# enough  called when the hosts serve again, as long as the load is to go on
sub recovers_ok {
    my ($self, $since, $seconds, $load, $name, $enough) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %took;
    for my $httpd ($self->httpds) {
        my $fresh = [];
        wait_until { $self->_crowd($httpd, $fresh) } 30, "$name: recovery";
        $took{ $httpd->{on}->name } = time - $since;
    }
    $enough->();
    my $seen = $load->stop;
    my @late = sort { $b <=> $a } map { $_->{opened} - $since }
        grep { $_->{kind} !~ /^200/ } @{ $seen->{replies} };
    $took{balancer} = $late[0] if @late && $late[0] > 0;
    Test::More::note(sprintf '%s: %s serves all after %.3f s', $name, $_,
        $took{$_}) for sort keys %took;
    Test::More::is_deeply([grep { $took{$_} > $seconds + slack() } keys %took],
        [], "$name: within $seconds s, without a reload");
    return $seen;
}

# Are so many new users served at once, by all children? Those who are not come
# again with the next call.
sub _crowd {
    my ($self, $httpd, $people) = @_;
    push @$people, $self->person while @$people < 12;
    my @all = UserSync::HTTP->at_once(60, map {
        [POST => $httpd->url('/auth/login'),
            { email => $_->{email}, password => $PASSWORD }]
    } @$people);
    @$people = @$people[grep { $all[$_]{status} != 200 } 0 .. $#all];
    return !@$people;
}

# Waits until each host refuses a new user as the database is away.
sub wait_for_outage {
    my ($self) = @_;
    for my $httpd ($self->httpds) {
        wait_until {
            my $response = $self->login($httpd, $self->{members}[0]);
            ($response->{json}{code} || '') eq 'store_unavailable';
        } 30, 'the outage at ' . $httpd->address;
    }
    return;
}

1;
