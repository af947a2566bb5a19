# configtest checks UserSyncOnDelete against the columns and the table: Mark
# needs a column, and Delete a name that has room for "_deleted".

use UserSync::Test -keep;
use UserSync::Configtest;

my $check = UserSync::Configtest->new;

sub lines { return join '', map {"$_\n"} @_ }

subtest 'what becomes of deleted users' => sub {
    my $column = 'UserSyncColumn deleted_at gone_at';
    my $no_column = qr/UserSyncOnDelete Mark needs UserSyncColumn deleted_at /;
    my $mark = 'UserSyncOnDelete Mark';
    $check->refused_ok($check->config . "$mark\n", 'Mark without a column',
        qr/main server: $no_column/);
    $check->refused_ok($check->config . lines($mark,
        'UserSyncColumn deleted_at None'), '... with None',
        qr/main server: $no_column/);
    $check->accepted_ok($check->config . lines($mark, $column),
        'Mark with a column');
    $check->accepted_ok($check->config . "UserSyncOnDelete $_\n",
        "$_ without a column") for 'Keep', 'Delete';
    $check->accepted_ok($check->config, 'nothing without a column');
    for my $case (
        ['Mark in a vhost', '', [$mark]],
        ['an inherited Mark', "$mark\n$column\n",
            ['UserSyncColumn deleted_at None']]) {
        my ($name, $main, $vhost) = @$case;
        my $text = $check->config . $main
            . $check->vhost('shop.example', @$vhost);
        $check->said($text);
        my $prefix = $check->prefix('shop.example');
        my $said = $check->refused_ok($text, $name, qr/$prefix.*$no_column/);
        unlike $said, qr/main server: /, 'and no other server';
    }
    $check->accepted_ok($check->config . lines($column)
        . $check->vhost('shop.example', $mark), 'an inherited column');
    $check->accepted_ok($check->config . lines($mark, $column)
        . $check->vhost('shop.example', 'UserSyncColumn deleted_at None',
        'UserSyncOnDelete Keep'), 'a vhost that says Keep');
};

# The table of tombstones: as many bytes as PostgreSQL takes, and one more.
subtest 'the name of the table of tombstones' => sub {
    my $x = 'x' x 53;
    my $long = qr/UserSyncOnDelete Delete: .*_deleted.*63 bytes.*55 bytes/;
    my %table = (
        'a name' => ["${x}yz", "${x}xyz"],
        'a schema, too' => ['s' x 63 . ".${x}yz", "s.${x}xyz"],
        'letters of two bytes' => ["${x}\xc3\xa4", "${x}x\xc3\xa4"],
        'quotes within' => [qq{"""$x"""}, qq{"""x$x"""}],
        'a quote before a quote' => [qq{"s"".""t"."$x"""""}, qq{"""""y$x"}],
    );
    for my $name (sort keys %table) {
        my ($fits, $too_long) = map { "UserSyncTable '$_'" } @{ $table{$name} };
        $check->accepted_ok($check->config
            . lines($fits, 'UserSyncOnDelete Delete'), "$name: 55 bytes");
        $check->refused_ok($check->config
            . lines($too_long, 'UserSyncOnDelete Delete'), "$name: 56",
            qr/main server: $long/);
        $check->accepted_ok($check->config
            . lines($too_long, 'UserSyncOnDelete Keep'), "$name: Keep");
    }
    my $text = $check->config . lines("UserSyncTable ${x}xyz")
        . $check->vhost('shop.example', 'UserSyncOnDelete Delete');
    $check->said($text);
    my $prefix = $check->prefix('shop.example');
    my $said = $check->refused_ok($text, 'in a vhost', qr/$prefix.*$long/);
    unlike $said, qr/main server: /, 'and no other server';
};

done_testing;
