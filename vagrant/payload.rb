# frozen_string_literal: true

require 'fileutils'

module Turnout
  # Files for the machines: the archive of what they run, and the key with which the manager reaches the others. Both are in a
  # folder readable by its owner only.
  class Payload
    # Everything that stack/swarm/*.sh and stack/Dockerfile read.
    CONTENT = %w[.dockerignore package.json stack dist db/roles.sql vagrant/cluster.sh vagrant/settings.env].freeze

    FILES = %w[turnout.tar.gz key key.pub].freeze

    # @param root [String] the project's folder
    # @param folder [String] where the files are created
    def initialize(root, folder)
      @root = root
      @folder = folder
      @prepared = false
      # Vagrant requires the files to exist when it reads its configuration; `prepare` fills them.
      FileUtils.mkdir_p(folder, mode: 0o700)
      FileUtils.touch(FILES.map { |name| path(name) })
    end

    # Returns the path of one of FILES.
    def path(name)
      File.join(@folder, name)
    end

    # Creates everything, once per command for any number of machines.
    def prepare
      return if @prepared

      make_key
      build
      @prepared = true
    end

    private

    # A key for these machines only.
    def make_key
      return if File.size?(path('key')) && File.size?(path('key.pub'))

      FileUtils.rm_f([path('key'), path('key.pub')])
      run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'turnout-manager', '-f', path('key'))
    end

    def build
      run('npm', 'run', '--silent', 'build')
      run('tar', '-czf', path('turnout.tar.gz'), '-C', @root, *CONTENT)
    end

    def run(*command)
      return if system(*command, chdir: @root)

      raise "#{command.first} failed; vagrant/HOWTO.md says what must be installed on this machine"
    end
  end
end
