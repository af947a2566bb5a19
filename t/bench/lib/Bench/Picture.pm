package Bench::Picture;

# Pictures of the results, drawn by gnuplot: one of the hook, and one of what
# all contenders do.

use strict;
use warnings;

use UserSync::Util qw(new_dir run_command spew);

my @ORDER = qw(module proxy stock python node nginx);
my @HOOKS = qw(hook cached looked-up closing pyhook login);
my %OURS = map { $_ => 1 } qw(module hook cached looked-up closing);
my %LABEL = (
    module => 'mod_usersync', proxy => 'mod_proxy', stock => 'stock httpd',
    python => 'FastAPI', node => 'Node.js', nginx => 'nginx',
    hook => 'usersync-hook', pyhook => 'FastAPI hook',
    login => 'usersync-login', cached => 'cached', 'looked-up' => 'looked up',
    closing => 'not kept',
);

# Bars with the lowest and the highest round: label, median, low, high
sub _bars {
    my ($result, $what, $title, $data) = @_;
    my $n = 0;
    my $rows = join '', map {
        my $spread = $result->{$_}{$what};
        sprintf "%d \"%s\" %f %f %f %d\n", $n++, $LABEL{$_},
            @$spread{qw(median low high)}, $OURS{$_} ? 1 : 2;
    } grep { $result->{$_} } @ORDER, @HOOKS;
    spew($data, $rows);
    return <<"GNUPLOT";
set title "$title"
plot '$data' using 1:3:6:xtic(2) with boxes lc variable notitle, \\
     '' using 1:3:4:5 with yerrorbars lc rgb '#333333' pt -1 notitle, \\
     '' using 1:5:(sprintf('%.0f', \$3)) with labels offset 0,0.6 notitle
GNUPLOT
}

# Shares of the ideal, for each number of clients.
sub _shares {
    my ($result, $data) = @_; # of each number of clients
    my @clients = sort { $a <=> $b } keys %$result;
    my @names = grep { $result->{ $clients[0] }{$_} } @ORDER;
    spew($data, join '', map {
        my $name = $_;
        join(' ', qq("$LABEL{$name}"), map {
            $result->{$_}{$name}{of_ideal}{median} } @clients) . "\n";
    } @names);
    my $column = 1;
    my $plots = join ', ', map {
        $column++;
        "'$data' using $column:xtic(1) title '$_'";
    } @clients;
    return <<"GNUPLOT";
set title "200 ms upstream: achieved / ideal, by clients"
set style data histogram
set style histogram clustered gap 1
set yrange [0:1]
set key outside top center horizontal
plot $plots
GNUPLOT
}

# Of the scenarios that there are, into this directory.
sub draw {
    my ($scenarios, $to) = @_;
    my $dir = new_dir('picture');
    _plot($dir, "$to/result.svg", _of_all($scenarios, $dir));
    _plot($dir, "$to/hook.svg", _of_hook($scenarios, $dir));
    return;
}

sub _of_hook {
    my ($scenarios, $dir) = @_;
    my @panels;
    for (['hook-cached', 'known to the cache'], ['hook-known', 'looked up']) {
        my ($name, $users) = @$_;
        my %result = %{ ($scenarios->{$name} || next)->{result} };
        $result{login} = delete $result{module};
        push @panels,
            _bars(\%result, 'rate', "$users: requests/s",
                "$dir/$name.rate"),
            _bars(\%result, 'cpu', "$users: CPU us per request",
                "$dir/$name.cpu");
    }
    if (my $crowd = $scenarios->{'hook-crowd'}) {
        push @panels,
            _bars($crowd->{result}, 'rate', '500 hooks at a time: requests/s',
                "$dir/crowd.rate"),
            _bars($crowd->{result}, 'p99',
                '500 hooks at a time: p99, milliseconds', "$dir/crowd.p99");
    }
    return @panels;
}

sub _of_all {
    my ($scenarios, $dir) = @_;
    my @panels;
    if (my $known = $scenarios->{known}) {
        push @panels,
            _bars($known->{result}, 'rate',
                'login of known users: requests/s', "$dir/rate"),
            _bars($known->{result}, 'cpu',
                'CPU per request, microseconds', "$dir/cpu");
    }
    if (my $first = $scenarios->{first}) {
        push @panels, _bars($first->{result}, 'rate',
            'first logins, a row for each: requests/s', "$dir/first");
    }
    my %slow = map { /^slow(\d+)$/ ? ($1 => $scenarios->{$_}{result}) : () }
        keys %$scenarios;
    push @panels, _shares(\%slow, "$dir/slow") if %slow;
    return @panels;
}

sub _plot {
    my ($dir, $file, @panels) = @_;
    return unless @panels;
    my $lines = int((@panels + 1) / 2);
    my $height = 320 * $lines;
    my $script = spew("$dir/script", <<"GNUPLOT" . join '', @panels);
set terminal svg size 900,$height font 'sans-serif,12' background '#ffffff'
set output '$file'
set linetype 1 lc rgb '#c0392b'
set linetype 2 lc rgb '#7f8c8d'
set linetype 3 lc rgb '#2c7fb8'
set style fill solid 0.9
set boxwidth 0.7
set termoption noenhanced
set offsets 0.5, 0.5, graph 0.1, 0
set grid ytics
set yrange [0:*]
set xtics rotate by -20 nomirror
set multiplot layout $lines,2
GNUPLOT
    my ($status, $said) = run_command('gnuplot', $script);
    die "gnuplot: $said" if $status;
    return;
}

1;
