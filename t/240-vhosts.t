# Every vhost is a separate application with its own project, key, database and
# table. Nothing of one shows in another, and none waits for another.

use UserSync::Test;
use UserSync::Tables;
use UserSync::Util qw(new_dir);

my $key = 'sb_publishable_of_the_second_project';
my $second = UserSync::Double->start(dir => new_dir('second'),
    config => { keys => [$key] });
my $first = double;
my $umask = umask 077;
my $key_file = spew("$ENV{USERSYNC_RUN}/second-project.key", "$key\n");
umask $umask;

my ($one, $two) = (scratch_db('usersync_one'), scratch_db('usersync_two'));
postgres->sql($one => $_) for
    'CREATE TABLE staff (id uuid PRIMARY KEY, email text)',
    'CREATE TABLE guests (id text PRIMARY KEY, mail text, name text,
        phone text)',
    'GRANT SELECT, INSERT, UPDATE ON staff, guests TO "www-data"';

my $dsn_two = dsn_of($two);
my $project_two = "UserSyncSupabaseURL ${\ $second->url }\n"
    . "UserSyncSupabaseKey file:$key_file\n";
my $named = reserve_port();
my $httpd = UserSync::Httpd->new(
    config => module_config(DBDParams => dsn_of($one)) . <<"CONF",
Listen 127.0.0.1:$named
<VirtualHost 127.0.0.1:$named>
    ServerName one.example
</VirtualHost>
<VirtualHost 127.0.0.1:$named>
    ServerName two.example
    DBDParams $dsn_two
    $project_two
</VirtualHost>
CONF
    vhosts => {
        inheriting => '',
        project => "$project_two\nDBDParams $dsn_two",
        database => "DBDParams $dsn_two",
        staff => 'UserSyncTable staff',
        guests => "UserSyncTable guests\nUserSyncColumn email mail\n"
            . "UserSyncColumn user_metadata.name name\n"
            . 'UserSyncColumn phone phone',
    },
)->start;

# Ids in a table, in order.
sub ids_in {
    my ($db, $table) = @_;
    return [map { $_->{id} }
        postgres->sql($db => "SELECT id::text AS id FROM $table ORDER BY 1")];
}

subtest 'two projects, two databases, one address' => sub {
    my %who = (email => 'both@people.example', password => 'twice the same');
    my %id;
    for my $vhost (undef, 'project') {
        my $new = post($httpd->url('/auth/register', $vhost), {%who});
        is $new->{status}, 200, 'registered' or diag show($new);
        $id{ $vhost || 'main' } = $new->{json}{user_id};
        my $in = log_in($httpd, \%who, $vhost);
        is $in->{json}{user_id}, $new->{json}{user_id}, 'logged in';
    }
    isnt $id{main}, $id{project}, 'two users';
    is_deeply ids_in($one, 'users'), [$id{main}], 'the row of one project';
    is_deeply ids_in($two, 'users'), [$id{project}], 'the row of the other';
    my %key;
    for (['first', $first], ['second', $second]) {
        my ($name, $project) = @$_;
        $key{$name}{ $project->header($_, 'apikey') }++
            for $project->requests;
    }
    is_deeply \%key, { first => { $first->key('publishable') => 2 },
        second => { $key => 2 } }, 'each with the key of the project';
};

subtest 'a user of one project at the other' => sub {
    my ($of_first, $of_second) = (person(), person(double => $second));
    my $before = [map { rows_in($_, 'users') } $one, $two];
    is log_in($httpd, $of_first, 'project')->{status}, 401, 'unknown';
    is log_in($httpd, $of_second)->{status}, 401, 'unknown the other way';
    is_deeply [map { rows_in($_, 'users') } $one, $two], $before, 'no rows';
};

subtest 'one project, two databases' => sub {
    my $person = person();
    for my $vhost (undef, 'database', undef, 'database') {
        is log_in($httpd, $person, $vhost)->{status}, 200, 'logged in';
    }
    for my $db ($one, $two) {
        is rows_in($db, "users WHERE id = '$person->{id}'"), 1, "in $db";
    }
};

subtest 'one database, several tables' => sub {
    my $person = person(phone => '4930123456',
        user_metadata => { name => 'Grace' });
    my $before = rows_in($one, 'users');
    for my $vhost ('staff', 'guests') {
        is log_in($httpd, $person, $vhost)->{status}, 200, $vhost;
    }
    is rows_in($one, 'users'), $before, 'nothing in the main server\'s';
    is_deeply [postgres->sql($one => 'SELECT * FROM staff')],
        [{ id => $person->{id}, email => $person->{email} }], 'staff';
    is_deeply [postgres->sql($one => 'SELECT * FROM guests')],
        [{ id => $person->{id}, mail => $person->{email}, name => 'Grace',
            phone => '4930123456' }], 'guests: its columns, too';
};

subtest 'a vhost that inherits everything' => sub {
    my $person = person();
    is log_in($httpd, $person, 'inheriting')->{status}, 200, 'logged in';
    is rows_in($one, "users WHERE id = '$person->{id}'"), 1, 'the same table';
};

subtest 'vhosts by name' => sub {
    for (['one.example', person(), $one], ['two.example',
        person(double => $second), $two]) {
        my ($name, $person, $db) = @$_;
        my $in = post("http://127.0.0.1:$named/auth/login",
            { map { $_ => $person->{$_} } qw(email password) },
            Host => $name);
        is $in->{status}, 200, $name or diag show($in);
        is rows_in($db, "users WHERE id = '$person->{id}'"), 1, 'its database';
    }
};
$httpd->stop;

# ---- lines that are added up

subtest 'columns: a vhost replaces line by line' => sub {
    postgres->sql($two => $_) for
        'CREATE TABLE a (id uuid PRIMARY KEY, email text, phone text, n text)',
        'CREATE TABLE b (key uuid PRIMARY KEY, email text, phone text, n text)',
        'CREATE TABLE c (id uuid PRIMARY KEY, email text, tel text, n text)',
        'GRANT SELECT, INSERT, UPDATE ON a, b, c TO "www-data"';
    my $merged = server($two, {
        b => "UserSyncTable b\nUserSyncColumn id key\n"
            . 'UserSyncColumn phone None',
        c => "UserSyncTable c\nUserSyncColumn phone tel\n"
            . "UserSyncColumn email None\n"
            . "UserSyncColumn user_metadata.name None\n"
            . 'UserSyncColumn user_metadata.nick n',
    }, UserSyncTable => 'a', UserSyncColumn => "phone phone\n"
        . 'UserSyncColumn user_metadata.name n')->start;
    my $person = person(phone => '49301', user_metadata =>
        { name => 'Ada', nick => 'AL' });
    my ($id, $email) = @$person{qw(id email)};
    my %wanted = (
        a => { id => $id, email => $email, phone => '49301', n => 'Ada' },
        b => { key => $id, email => $email, phone => undef, n => 'Ada' },
        c => { id => $id, email => undef, tel => '49301', n => 'AL' },
    );
    for my $table (sort keys %wanted) {
        my $in = log_in($merged, $person, $table eq 'a' ? undef : $table);
        is $in->{status}, 200, "logged in, $table" or diag show($in);
        is_deeply [postgres->sql($two => "SELECT * FROM $table")],
            [$wanted{$table}], 'its row';
    }
};

# ---- none waits for another

# Starts a login; end_login returns the response.
sub begin_login {
    my ($server, $person, $vhost) = @_;
    my $url = $server->url('/auth/login', $vhost);
    my $connection = connection($url);
    $connection->send(post_bytes($url,
        { map { $_ => $person->{$_} } qw(email password) }));
    return $connection;
}

sub end_login {
    my ($connection, $timeout) = @_;
    my $response = $connection->response($timeout || 20);
    $connection->close; # prefork's process would wait for that
    return $response;
}

# Those without an answer so far.
sub unanswered {
    return grep {
        vec(my $set = '', fileno $_->socket, 1) = 1;
        !select $set, undef, undef, 0;
    } @_;
}

# The server's time limits are not tested here.
postgres->sql($one => "ALTER ROLE \"www-data\" IN DATABASE $one RESET ALL");

# How the two share connections: the vhosts' own lines.
my %sharing = (
    'by inheriting' => ['', ''],
    'by repeating the lines' => [(join "\n", 'DBDriver pgsql',
        'DBDParams ' . dsn_of($one), 'DBDMin 0', 'DBDKeep 1', 'DBDMax 1') x 2],
);
for my $how (sort keys %sharing) {
    subtest "one connection for two vhosts, $how" => sub {
        my ($known, $new) = (person(), person());
        my $narrow = server($one, {
            patient => "$sharing{$how}[0]\nUserSyncStoreTimeout 30s",
            hasty   => "$sharing{$how}[1]\nUserSyncStoreTimeout 500ms",
        }, DBDKeep => 1, DBDMax => 1)->start;
        for my $vhost ('patient', 'hasty') {
            is log_in($narrow, $known, $vhost)->{status}, 200, 'logged in';
        }
        my $other = postgres->connect($one);
        $other->begin_work;
        $other->do('LOCK TABLE users IN EXCLUSIVE MODE');
        my $waiting = begin_login($narrow, $new, 'patient');
        wait_until { waiting_in($one) } 10, 'the patient one to wait';
        # prefork's only process is busy
        if ($narrow->mpm ne 'prefork') {
            my $hasty = end_login(
                begin_login($narrow, $known, 'hasty'), 6);
            refused_ok $hasty, 503, 'store_unavailable',
                'the hasty one has none';
            cmp_ok $hasty->{elapsed}, '<', 1 + slack, 'and says so in time';
            $narrow->expect_log(qr/all 1 connections of DBDMax are in use/);
        }
        $other->rollback;
        is end_login($waiting)->{status}, 200, 'the patient one has waited';
        is log_in($narrow, $known, 'hasty')->{status}, 200, 'free again';
    };
}

subtest 'two time limits on one database' => sub {
    my $limits = server($one, { patient => 'UserSyncStoreTimeout 30s',
        hasty => 'UserSyncStoreTimeout 500ms' })->start;
    my @people = (person(), person());
    my $other = postgres->connect($one);
    $other->begin_work;
    $other->do('LOCK TABLE users IN EXCLUSIVE MODE');
    my $patient = begin_login($limits, $people[0], 'patient');
    wait_until { waiting_in($one) } 10, 'the patient one to wait';
    if ($limits->mpm ne 'prefork') {
        my $hasty = log_in($limits, $people[1], 'hasty');
        refused_ok $hasty, 503, 'store_unavailable', 'the hasty one gives up';
        cmp_ok $hasty->{elapsed}, '<', 1 + slack, 'in time';
        $limits->expect_log(qr/did not answer within UserSyncStoreTimeout/);
    }
    $other->rollback;
    is end_login($patient)->{status}, 200, 'the patient one is served';
    is log_in($limits, $people[1], 'hasty')->{status}, 200, 'then the other';
};

subtest 'a database that is away' => sub {
    my $away = drop_at_end('usersync_away');
    my $mixed = UserSync::Httpd->new(
        config => module_config(DBDParams => dsn_of($one)),
        vhosts => { away => 'DBDParams ' . dsn_of($away)
            . "\nUserSyncStoreTimeout 3s" })->start;
    $mixed->allow_log(qr/\[dbd:error\].*(?:AH00629|AH00632|AH00633|AH02655)/);
    my @people = map { person() } 1 .. 4;
    log_in($mixed, $_) for @people;
    my @waiting = map { begin_login($mixed, $_, 'away') } @people;
    my @in = map { log_in($mixed, $_) } @people, @people;
    is join(' ', map { $_->{status} } @in), join(' ', (200) x 8),
        'the others log in meanwhile';
    is scalar(unanswered(@waiting)), 4, 'while these wait';
    refused_ok end_login($_), 503, 'store_unavailable', 'away' for @waiting;
    $mixed->expect_log(qr/store_unavailable/);
};

subtest 'a project that is away' => sub {
    $second->fault(op => 'token', kind => 'hang_before', times => -1);
    my $mixed = UserSync::Httpd->new(
        config => module_config(DBDParams => dsn_of($one)),
        vhosts => { hung => "${project_two}UserSyncTimeout 3s" })->start;
    my @people = map { person() } 1 .. 4;
    my @waiting = map { begin_login($mixed, $_, 'hung') } @people;
    $second->wait_requests('token', 4) or diag 'fewer have arrived';
    my @in = map { log_in($mixed, $_) } @people, @people;
    is join(' ', map { $_->{status} } @in), join(' ', (200) x 8),
        'the others log in meanwhile';
    is scalar(unanswered(@waiting)), 4, 'while these wait';
    refused_ok end_login($_), 504, 'upstream_timeout', 'too slow'
        for @waiting;
    $second->clear_faults;
    $mixed->expect_log(qr/upstream_timeout/);
};

$second->stop;
done_testing;
