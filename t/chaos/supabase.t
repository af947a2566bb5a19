# Supabase restarts again and again under load, and sends too much: only
# requests in flight fail, each kept connection that died costs nothing, and
# memory stays bounded.

use UserSync::Test;
use UserSync::Chaos;
use UserSync::Outage;

use constant CLIENTS => 12;

double->config(autoconfirm => JSON::PP::true, reuse_tokens => JSON::PP::true);

# ---- restarts

# A double with users that this test may restart.
sub own_supabase {
    my $supabase = UserSync::Double->start(
        dir => UserSync::Util::new_dir('double'), config => {
            autoconfirm => JSON::PP::true, reuse_tokens => JSON::PP::true });
    my @people = map { { email => "chaos$_\@example.com",
        password => password } } 0 .. 49;
    $supabase->add_user(%$_) for @people;
    return ($supabase, @people);
}

subtest 'restarts under load' => sub {
    my ($supabase, @people) = own_supabase();
    my $httpd = UserSync::Httpd->new(config => module_config(
        UserSyncSupabaseURL => $supabase->url))->start;
    $httpd->allow_log(qr/: (?:upstream_unavailable|upstream_bad_answer):/);
    my $load = UserSync::Load->start(url => $httpd->url('/auth/login'),
        people => \@people, clients => CLIENTS, keep => 1);
    my $logins = sub { $supabase->stats->{requests}{token} || 0 };
    my @outages;
    for (1 .. scaled(4, 40)) {
        wait_until { $logins->() > 100 } 20, 'logins';
        my $down = time;
        $supabase->restart;
        push @outages, [$down, time];
    }
    wait_until { $logins->() > 100 } 20, 'logins after the last';
    my $seen = $load->stop;
    kinds_ok($seen, '200|503 upstream_unavailable|502 upstream_bad_answer',
        'logged in, or the failure is reported');
    my @outside = grep {
        my $reply = $_;
        $reply->{kind} ne '200' && !grep {
            $reply->{ended} >= $_->[0] && $reply->{opened} <= $_->[1]
        } @outages;
    } @{ $seen->{replies} };
    is_deeply \@outside, [], 'no login failed but while it was away';
    $httpd->stop;
    $supabase->stop;
};

# ---- memory

# What a fault may cost a child at most, in addition to a login (kB). Each
# thread may hold an answer of 1 MiB at a time, and its growing copies.
use constant MORE => 3 * 1024 * CLIENTS;

sub largest_child {
    my ($httpd) = @_;
    my ($kb) = sort { $b <=> $a } map {
        (slurp("/proc/$_/status") || '') =~ /^VmHWM:\s+(\d+) kB/m ? $1 : 0
    } $httpd->children;
    return $kb;
}

subtest 'answers without end' => sub {
    my $httpd = UserSync::Httpd->new(config => module_config(
        UserSyncTimeout => '3s', UserSyncConnectTimeout => '1s'),
        mpm() eq 'prefork' ? ()
            : (children => 1, threads => CLIENTS + 1))->start;
    $httpd->allow_log(qr/: (?:upstream_\w+|outcome_unknown):/);
    my @people = people(CLIENTS);
    is tally(logins($httpd, CLIENTS)), CLIENTS . ' x 200', 'all is well';
    my $before = largest_child($httpd);
    for my $fault ([kind => 'huge'], [kind => 'huge', framing => 'chunked'],
        [kind => 'endless_headers'], [kind => 'endless_interim']) {
        my %fault = @$fault;
        my $name = join ' ', $fault{kind}, $fault{framing} || ();
        double->fault(%fault, op => 'token', times => -1);
        my %seen;
        for (1 .. scaled(2, 50)) {
            $seen{ UserSync::Load::kind($_) }++ for logins($httpd, CLIENTS);
        }
        double->clear_faults;
        is_deeply [grep { !/^(?:502 upstream_bad_answer|504 upstream_timeout)$/ }
            keys %seen], [], "$name: " . join ', ', sort keys %seen;
        my $grown = largest_child($httpd) - $before;
        # AddressSanitizer keeps what was freed
        cmp_ok $grown, '<', MORE, "$name: a child grew by $grown kB"
            unless ($ENV{USERSYNC_HTTPD} || '') =~ /sanitized/;
    }
    is tally(logins($httpd, CLIENTS)), CLIENTS . ' x 200', 'all is well again';
    $httpd->stop;
};

done_testing;
