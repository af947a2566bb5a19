# UserSyncMaxPerClient: a client that keeps many logins waiting takes no seat
# from the others, over HTTP/1.1 and HTTP/2, and also behind a proxy.

use UserSync::Background;
use UserSync::Load;
use UserSync::Test;

my $PREFORK = mpm() eq 'prefork';
my ($CHILDREN, $THREADS) = $PREFORK ? (40, 1) : (2, 40);
my $SEATS = 20;    # of 80 threads, or 40 processes
my $FIFTH = $SEATS / 5;
my %ada = (email => 'ada@example.com', password => 'correct horse');
my %mallory = (email => 'mallory@example.com', password => 'incorrect donkey');

# Only the account of Mallory, the attacker, is slow.
sub server {
    my ($set, %arg) = @_;
    double->reset;
    double->config(reuse_tokens => JSON::PP::true);
    double->add_user(%$_) for \%ada, \%mallory;
    my $more = delete $arg{more} || '';
    my $httpd = UserSync::Httpd->new(children => $CHILDREN,
        threads => $THREADS, config => module_config(
            UserSyncMaxConcurrent => $SEATS, UserSyncMaxPerClient => undef,
            UserSyncTimeout => '60s', %$set) . $more, %arg);
    UserSync::Util::spew("$ENV{USERSYNC_RUN}/mallory.json",
        UserSync::HTTP::encode_json(\%mallory));
    # what the attacker gets when the double releases them
    $httpd->allow_log(qr/: (?:busy|upstream_bad_answer): /);
    $httpd->start;
    wait_until { $httpd->children >= ($arg{children} || $CHILDREN) } 20, 'all children';
    double->fault(kind => 'hang_before', op => 'token', times => -1,
        email => $mallory{email});
    return $httpd;
}

sub arrived { return scalar double->requests('token') }

sub waits {
    return scalar grep { ($_->{body} || '') =~ /mallory/ }
        double->requests('token');
}

# Mallory's connections, again and again until the job is stopped; returns when
# this many of them wait at Supabase.
sub attack {
    my ($httpd, $seats, @header) = @_;
    my $load = UserSync::Load->start(clients => 100, request => sub {
        ([POST => $httpd->url('/auth/login'), \%mallory, @header], 'mallory')
    });
    wait_until { waits() >= $seats } 30, "$seats logins of the attacker";
    return $load;
}

# Sixty users log in, 3 at a time: returns what they get.
sub others {
    my ($httpd, $header) = @_;
    my %n;
    for my $turn (0 .. 19) {
        $n{ UserSync::Load::kind($_) }++ for parallel(3, sub {
            ($httpd->url('/auth/login'), \%ada, $header->(3 * $turn + $_[0]))
        });
    }
    return join ', ', map {"$n{$_} x $_"} sort keys %n;
}

sub address { return '127.0.1.' . (1 + $_[0]) }

sub causes {
    my ($httpd) = @_;
    my %seen = map { /: busy: (\w+)/ ? ($1 => 1) : () } $httpd->log_since(0);
    return join ' ', sort keys %seen;
}

subtest 'an attacker with 100 connections' => sub {
    my $httpd = server({});
    my $attack = attack($httpd, $SEATS - $FIFTH, -from => '127.0.0.2');
    is others($httpd, sub { (-from => address($_[0])) }), '60 x 200',
        'sixty others are served';
    is waits(), $SEATS - $FIFTH, 'the attacker has what the others left';
    is causes($httpd), 'UserSyncMaxPerClient', 'the cause';
    like +(grep {/: busy: /} $httpd->log_since(0))[0],
        qr/\[usersync:warn\].*\[client 127\.0\.0\.2.*mod_remoteip/,
        'the line names the client and what a proxy needs';
    is get($httpd->url('/'))->{error}, undef, 'the site is there';
    double->clear_faults;
    $attack->stop;
    $httpd->stop;
};

# All seats are taken if nothing stops the attacker.
subtest 'Off' => sub {
    my $httpd = server({ UserSyncMaxPerClient => 'Off' });
    my $attack = attack($httpd, $SEATS, -from => '127.0.0.2');
    is others($httpd, sub { (-from => address($_[0])) }), '60 x 503 busy',
        'the others are not served';
    is causes($httpd), 'UserSyncMaxConcurrent', 'the cause';
    double->clear_faults;
    $attack->stop;
    $httpd->stop;
};

subtest 'a crowd of others comes first' => sub {
    my $httpd = server({ UserSyncMaxPerClient => 2 });
    my $many = $SEATS - $FIFTH;
    my $crowd = UserSync::Load->start(clients => $many, most => $many,
        request => sub { my ($i) = @_;
            ([POST => $httpd->url('/auth/login'), \%mallory,
                -from => '127.0.2.' . (1 + $i)], 'crowd') });
    wait_until { waits() >= $many } 30, 'the crowd';
    my $attack = attack($httpd, $many + 2, -from => '127.0.0.2');
    my @all = map { post($httpd->url('/auth/login'), \%ada,
        -from => address($_)) } 1 .. 10;
    is scalar(grep { $_->{status} == 200 } @all), 10, 'others are served';
    is waits(), $many + 2, 'the attacker has two';
    double->clear_faults;
    $_->stop for $attack, $crowd;
    $httpd->stop;
};

subtest 'behind a proxy' => sub {
    # without mod_remoteip all are one client
    my $httpd = server({});
    my $attack = attack($httpd, $SEATS - $FIFTH,
        'X-Forwarded-For' => '192.0.2.66');
    is others($httpd, sub {
        ('X-Forwarded-For' => '192.0.2.' . $_[0]) }), '60 x 503 busy',
        'no mod_remoteip: all are one client';
    is causes($httpd), 'UserSyncMaxPerClient', 'the line says so';
    double->clear_faults;
    $attack->stop;
    $httpd->stop;

    $httpd = server({}, modules => ['remoteip'], more => <<'CONF');
RemoteIPHeader        X-Forwarded-For
RemoteIPInternalProxy 127.0.0.0/8
CONF
    for my $case (['192.0.2.66', sub { '192.0.2.' . $_[0] }],
        # addresses of one /64 are one client
        ['2001:db8::66', sub { sprintf '2001:db8:0:%x::66', 1 + $_[0] }]) {
        my ($attacker, $other) = @$case;
        double->clear_requests;
        my $attack6 = UserSync::Load->start(clients => 100, request => sub {
            my $address = $attacker;
            $address =~ s/::66/sprintf '::%x', 1 + $_[0] % 5000/e;
            ([POST => $httpd->url('/auth/login'), \%mallory,
                'X-Forwarded-For' => $address], 'mallory')
        });
        wait_until { waits() >= $SEATS - $FIFTH } 30, $attacker;
        is others($httpd, sub {
            ('X-Forwarded-For' => $other->($_[0])) }), '60 x 200',
            "mod_remoteip: clients beside $attacker are served";
        is waits(), $SEATS - $FIFTH, 'the attacker has what others left';
        double->clear_faults;
        $attack6->stop;
        double->fault(kind => 'hang_before', op => 'token', times => -1,
            email => $mallory{email});
    }
    double->clear_faults;
    $httpd->stop;
};

subtest 'HTTP/2' => sub {
    plan(skip_all => 'mod_http2 does not work with prefork') if $PREFORK;
    my $httpd = server({}, more => "Protocols h2c http/1.1\n");
    my $job = UserSync::Background->start(sub {
        run_command('h2load', '-n', 100, '-c', 10, '-m', 10, '-d',
            "$ENV{USERSYNC_RUN}/mallory.json", '-H',
            'content-type: application/json', $httpd->url('/auth/login'));
        return 1;
    });
    wait_until { waits() >= $SEATS - $FIFTH } 30, 'its logins';
    is others($httpd, sub { (-from => address($_[0])) }), '60 x 200',
        'an attacker over HTTP/2';
    is waits(), $SEATS - $FIFTH, 'has what the others left';
    double->clear_faults;
    $job->result;
    $httpd->stop;
};

# 11 threads in each child and no limit for all: the ten seats of a child.
subtest 'the seats of one child' => sub {
    plan(skip_all => 'a child has but one') if $PREFORK;
    my $httpd = server({ UserSyncMaxConcurrent => 1000 }, children => 1,
        threads => 11);
    my $attack = attack($httpd, 8, -from => '127.0.0.2');
    my @all = map { post($httpd->url('/auth/login'), \%ada,
        -from => address($_)) } 1 .. 20;
    is scalar(grep { $_->{status} == 200 } @all), 20, 'others are served';
    is waits(), 8, 'the attacker has four fifths';
    is causes($httpd), 'UserSyncMaxPerClient', 'the cause';
    double->clear_faults;
    $attack->stop;
    $httpd->stop;
};

# What a killed child held is free for its client again.
subtest 'a child that is killed' => sub {
    my $httpd = server({});
    $httpd->allow_log(qr/AH1039[23]: children are killed successively/);
    my $attack = attack($httpd, $SEATS - $FIFTH, -from => '127.0.0.2');
    double->clear_faults;
    $httpd->kill_children;
    $attack->stop;
    my @all;
    wait_until {
        @all = parallel($SEATS - $FIFTH, sub {
            ($httpd->url('/auth/login'), \%ada, -from => '127.0.0.2') });
        !grep { $_->{status} != 200 } @all;
    } 20;
    is scalar(grep { $_->{status} == 200 } @all), $SEATS - $FIFTH,
        'it has four fifths again';
    $httpd->stop;
};

done_testing;
