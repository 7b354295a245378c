# The site's manifest on the master branch, applied on every node.
# Repositories: Grizzly's always, others from when they are promoted until they are moved back.
$promoted = split(file('/srv/shared/puppet/promoted'), "\n").filter |$name| { $name != '' }

(['grizzly'] + $promoted).unique.each |$name| {
  file { "/etc/yum.repos.d/${name}.repo":
    content => "[${name}]\nname=OpenStack ${name}\nbaseurl=http://127.0.0.1:8081/${name}\nenabled=1\ngpgcheck=0\n",
    mode    => '0644',
    before  => Exec['update packages'],
  }
}

$withdrawn = split(file('/srv/shared/puppet/withdrawn'), "\n").filter |$name| { $name != '' }

($withdrawn.unique - $promoted).each |$name| {
  file { "/etc/yum.repos.d/${name}.repo":
    ensure => absent,
    before => Exec['update packages'],
  }
}

# Automatic software updating, while the node has it on.
exec { 'update packages':
  command => '/usr/bin/yum -y update',
  onlyif  => [
    '/bin/grep -q \'^ENABLED="true"\' /etc/sysconfig/yum-autoupdate',
    '/bin/sh -c "/usr/bin/yum -q check-update; test \$? = 100"',
  ],
  timeout => 300,
}

# Each tier's services run (what follows is made by the lab).
