PATH=/home/vagrant/tcp-harness/.venv/bin:$PATH:/usr/sbin:/sbin
