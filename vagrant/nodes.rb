# frozen_string_literal: true

# The list of machines. Pure, so that tests and Vagrant share it.
module Turnout
  # A machine: `memory` in MiB. `name` is also its host name, which is part of a frontend's receipts.
  Node = Struct.new(:name, :role, :address, :memory, :cpus, keyword_init: true)

  # A faulty setting; the message names it and the reason.
  class BadSetting < StandardError; end

  # Last octets of the addresses. Frontends use .20 to .199, workers .200 to .249.
  MANAGER = 11
  INTERLOCK = 12
  FRONTENDS_FROM = 20
  WORKERS_FROM = 200
  STORE = 250
  FRONTENDS_MAX = WORKERS_FROM - FRONTENDS_FROM
  WORKERS_MAX = STORE - WORKERS_FROM

  module_function

  # Returns all machines in start order. The manager is last, because it creates the Swarm from the others.
  #
  # @param env [Hash{String => String}] the environment: FRONTENDS (2), WORKERS (1), SUBNET (192.168.33)
  # @return [Array<Node>]
  # @raise [BadSetting] for a faulty value
  def nodes(env)
    subnet = subnet(env)
    frontends = count(env, 'FRONTENDS', 2, FRONTENDS_MAX)
    workers = count(env, 'WORKERS', 1, WORKERS_MAX)
    [
      node('store', 'store', subnet, STORE, 2048, 2),
      node('interlock', 'interlock', subnet, INTERLOCK, 768, 1),
      *(0...frontends).map { |i| node(format('frontend%02d', i + 1), 'frontend', subnet, FRONTENDS_FROM + i, 1024, 1) },
      *(0...workers).map { |i| node(format('worker%02d', i + 1), 'worker', subnet, WORKERS_FROM + i, 768, 1) },
      # Builds the images.
      node('manager', 'manager', subnet, MANAGER, 2048, 2)
    ]
  end

  def node(name, role, subnet, last, memory, cpus)
    Node.new(name: name, role: role, address: "#{subnet}.#{last}", memory: memory, cpus: cpus)
  end

  def count(env, name, default, max)
    text = env.fetch(name, '')
    return default if text.empty?

    number = text.match?(/\A\d{1,3}\z/) ? text.to_i : 0
    return number if number.between?(1, max)

    raise BadSetting, "#{name} must be a whole number from 1 to #{max}; it is #{text.inspect}"
  end

  def subnet(env)
    text = env.fetch('SUBNET', '')
    return '192.168.33' if text.empty?
    return text if text.match?(/\A\d{1,3}\.\d{1,3}\.\d{1,3}\z/) && text.split('.').all? { |part| part.to_i < 256 }

    raise BadSetting, "SUBNET must be the first three numbers of a network, like 192.168.33; it is #{text.inspect}"
  end
end
