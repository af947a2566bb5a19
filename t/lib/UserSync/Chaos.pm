package UserSync::Chaos;

# What the tests in t/chaos share. In the suite they take about half a minute
# in all, and much longer with USERSYNC_CHAOS=1 (make test-chaos).

use strict;
use warnings;

use Exporter qw(import);
use Test::More ();
use Time::HiRes qw(time);

use UserSync::Background ();
use UserSync::HTTP ();
use UserSync::Load ();
use UserSync::Test ();
use UserSync::Util qw(patience slurp wait_until);

our @EXPORT = qw(
    chance count_of kinds_ok password pick places_ok registrations rows_ok
    scaled summary
);

sub password { return 'correct horse battery' }

# In the suite, in the long run
sub scaled {
    my ($short, $long) = @_;
    return $ENV{USERSYNC_CHAOS} ? $long : $short;
}

# ---- randomness: USERSYNC_SEED=... repeats a run

my $seed = $ENV{USERSYNC_SEED} || (time ^ $$) & 0xffff;
srand $seed;

sub pick   { return $_[rand @_] }
sub chance { return rand() < $_[0] }

# Printed when a test fails, for the next try.
END {
    my $builder = Test::More->builder;
    $builder->diag("USERSYNC_SEED=$seed")
        if $builder->expected_tests && !$builder->is_passing;
}

# ---- the replies

# "14 x 200, 2 x 503 store_unavailable" from the result of UserSync::Load
sub summary {
    my ($seen) = @_;
    return join(', ', map {"$seen->{by}{$_} x $_"} sort keys %{ $seen->{by} })
        . sprintf ', slowest %.3f s', $seen->{slowest};
}

sub count_of {
    my ($seen, $kind) = @_;
    return $seen->{by}{$kind} || 0;
}

# Every reply was one of these kinds.
sub kinds_ok {
    my ($seen, $allowed, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    Test::More::note("$name: " . summary($seen));
    return Test::More::is_deeply(
        [grep { $_ !~ /^(?:$allowed)$/ } sort keys %{ $seen->{by} }],
        [], $name) || Test::More::diag(Test::More::explain($seen->{bad}));
}

# ---- the clients

# The request for UserSync::Load that registers a new user each time.
sub registrations {
    my ($url, $prefix) = @_;
    return sub {
        my ($number) = @_;
        my $email = "$prefix$number\@example.com";
        return ([POST => $url, { email => $email, password => password() }],
            $email);
    };
}

# ---- what must be true afterwards

# These users have a row, and no others. By ids; in the database app.
sub rows_ok {
    my ($pg, $ids, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %row  = map { $_->{id} => 1 } $pg->sql(app => 'SELECT id FROM users');
    my %want = map { $_ => 1 } @$ids;
    return Test::More::is_deeply(
        {
            without_row  => [grep { !$row{$_} } sort keys %want],
            row_too_many => [grep { !$want{$_} } sort keys %row],
        },
        { without_row => [], row_too_many => [] }, $name);
}

# All places of UserSyncMaxConcurrent are free again, and not one too many: of
# a few more logins than that at a hung Supabase, exactly this many wait. The
# double is the suite's; $person can log in.
sub places_ok {
    my ($httpd, $limit, $person, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $more = 4;
    my $double = UserSync::Test::double();
    my $busy = sub {
        return scalar(() = (slurp($httpd->access_log) || '')
            =~ /outcome=busy/g);
    };
    # waiting requests may be cut off when Supabase releases them
    $httpd->allow_log(qr/usersync-login: (?:busy|upstream_bad_answer):/);
    $double->clear_faults;
    $double->clear_requests;
    $double->fault(kind => 'hang_before', op => 'token', times => -1);
    my $before = $busy->();
    my $job = UserSync::Background->start(sub {
        [map { UserSync::Load::kind($_) } UserSync::Test::parallel(
            $limit + $more, sub { ($httpd->url('/auth/login'), $person) })];
    });
    my $waiting = sub { my @all = $double->requests('token'); scalar @all };
    wait_until { $waiting->() + $busy->() - $before >= $limit + $more } 30;
    my $seen = $waiting->();
    $double->clear_faults;
    my @all = @{ $job->result };
    return Test::More::is("$seen wait, "
            . scalar(grep { $_ eq '503 busy' } @all) . ' are sent away',
        "$limit wait, $more are sent away", $name)
        || Test::More::diag("@all");
}

1;
